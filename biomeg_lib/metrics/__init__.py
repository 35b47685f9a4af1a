"""Scorers that agree with the official ones (`entities`), and what several seeds say together (`statistics`)."""
