"""Every form that stories come in, read into one: SourceText."""
