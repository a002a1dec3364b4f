"""One module for each command of `nexus`; the command line loads only the one that is called."""
