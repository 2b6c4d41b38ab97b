"""pytest-celery without Docker: a client whose containers are processes on this machine.

Docker enters pytest-celery in one place, the session fixture ``docker_client`` of
pytest-docker-tools. The containers, nodes, clusters and the setup above it are plain classes, so
with :class:`LocalDocker` in its place their public fixtures run unchanged: ``celery_setup``,
``celery_worker``, ``celery_broker``, ``celery_backend``, with ``kill``, ``restart``, ``logs`` and
``ready``.

A ``conftest.py`` takes part by importing the fixture, which then hides the plugin's::

    from tests.support.localdocker.fixtures import docker_client

With ``NODEKIT_TEST_DOCKER=1`` the same fixture gives the real client, and the same tests run in
real containers.

What is what:

* ``redis`` images are :class:`celery_nodekit.demo.server.EmbeddedServer`, ``rabbitmq`` images are
  :class:`tests.support.rabbitmq.RabbitServer`. Any other image is refused.
* An image that is built is this Python environment; nothing is installed. A worker is a child
  process with the environment variables, the command and the volume that its container would have.
  ``%h`` in its command is the container's host name, and PYTHONPATH follows the volumes.
* ``kill`` signals the main process; ``SIGKILL`` also ends its children, as it does in a container.
* Servers keep their port over a restart, and logs go on in one file over restarts, as in Docker.

What is not: no isolation. Paths other than those in PYTHONPATH and the working directory are the
machine's own, ``exec_run`` sees all processes of the machine, and ports are ports of 127.0.0.1. An
option of ``containers.run`` that is not known here is refused instead of ignored.

To write a test, take the ``celery_setup`` fixture, and override pytest-celery's fixtures in the
test's module where the worker has to differ:

* ``default_worker_tasks`` returns the modules with the tasks, ``default_worker_app`` an app whose
  changed settings the worker gets, ``default_worker_command`` its command line, and
  ``default_worker_env`` its environment variables.
* ``default_worker_app_module`` returns the module that makes the app. Copy
  ``pytest_celery.vendors.worker.content.app`` and keep the lines ``imports = None``,
  ``app = Celery("celery_test_app")`` and ``config = None``, which are replaced; below
  ``config_from_object`` is the place to install a ``NodeKit``. The package under test can be
  imported. In real containers that needs an image that has it: override
  ``celery_base_worker_image``.
* ``@pytest.mark.parametrize("celery_broker", [CELERY_RABBITMQ_BROKER], indirect=True)`` runs a test
  with RabbitMQ. A node is started for each such test, which takes 3 to 4 seconds.
"""

from __future__ import annotations

from tests.support.localdocker.client import LocalDocker

__all__ = ["LocalDocker"]
