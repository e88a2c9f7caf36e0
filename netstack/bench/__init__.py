"""Benchmarks that can be trusted: beside a baseline, in the same run, with the content checked.

``catalogue`` lists them, ``result`` is what each returns, ``report`` shows it. A bench that
needs a network (``tap``) starts its own: worker processes in network namespaces of their own
(``namespace``, ``worker``, ``worlds``), a kernel peer (``peer``) and the same client's work
(``work``) for the kernel's sockets and for ours.
"""
