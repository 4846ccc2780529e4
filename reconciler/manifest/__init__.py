"""Text to DesiredState, or every diagnostic at once. Pure: files arrive as bytes, content facts through a callable."""
