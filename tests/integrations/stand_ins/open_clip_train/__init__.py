"""open_clip's training, in the few lines that an adapter meets; names and order are its own."""
