"""A sweep on real engines: its journal, its launches, and the loop that carries out what the search decides."""
