"""What can be measured of a running engine from outside: cards, host, processes, and the server's own metrics."""
