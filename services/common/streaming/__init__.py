"""Streams over the bus: a service produces chunks, one reader takes them, and neither outruns or outlives the other.

A reader opens a stream with a request to its service, and then pulls: each of its requests acknowledges the chunks that
it has, and is answered with the next ones as soon as there are any. So the source waits for a slow reader, a request
that was lost is repeated without loss, and only the account that asked gets the chunks.
"""
