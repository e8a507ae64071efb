"""Host trees for tests: a model of a host and its containers, what writes it as files, and recordings of real hosts."""
