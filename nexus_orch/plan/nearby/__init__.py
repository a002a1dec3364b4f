"""Other runs near this one."""
