"""kvoshim: processes of one host talk at the speed of memory."""

__version__ = "0.1.0"
