"""A worker: one process, one epoll loop, the standard library and msgspec.

It is started as `python -m services.proxy.worker`.
"""
