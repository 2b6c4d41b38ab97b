"""Decides which queue a task call goes to.

``NodeAMQP`` is the app's ``amqp`` class: it declares the node queues and puts ``NodeRouter`` before
the app's own ``task_routes``. Rules say which node; the router says which queue.
"""
