"""How the process behaves: interruption, threads, memory."""
