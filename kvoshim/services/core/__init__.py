"""What services, their configuration and their states are: values and functions of values. No I/O, no clock, no chance."""
