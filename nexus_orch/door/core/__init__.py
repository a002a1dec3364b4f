"""What the door decides: which request is sent when, sent again, broken off or refused. No clock, no sockets."""
