"""What a process needs before it can work for a person: streams, progress on the screen, quick imports."""
