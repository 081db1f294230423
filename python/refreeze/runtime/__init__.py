"""What keeps the process well: signals, interruption, memory."""
