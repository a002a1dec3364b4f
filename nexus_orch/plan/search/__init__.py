"""Which settings and which placement are taken."""
