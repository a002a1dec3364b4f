"""Launch: a command becomes a process that is watched, proven and stopped without leaving anything behind."""
