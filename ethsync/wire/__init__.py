"""Messages of devp2p, eth and snap: bytes in, values out. No I/O, no clock, no event loop."""
