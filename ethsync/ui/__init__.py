"""What people see: progress, estimates, measurements and reports. Only `view` and `live` import rich."""
