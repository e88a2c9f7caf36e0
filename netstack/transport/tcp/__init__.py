"""TCP (RFC 9293): one module a mechanism.

``protocol`` finds the connection, ``arrival`` processes a segment step by step, ``sender`` and
``receiver`` hold the two halves, ``output`` builds what leaves. ``state`` is figure 5.
"""
