"""What people see: progress, estimates, measurements and reports. Only `view` and `display` import rich."""
