"""Options of a training: the configuration, what it may hold, and its words on a command line."""
