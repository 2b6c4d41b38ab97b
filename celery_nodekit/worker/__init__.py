"""What a worker process does differently: the node it belongs to, and the queues that follow."""
