"""The link layer: interfaces, ARP and its neighbour cache, and a learning switch."""
