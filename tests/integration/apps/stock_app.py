"""The same cron task on Celery alone, and its Broadcast queue."""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery
from kombu.common import Broadcast

app = Celery("stock", broker=os.environ["TEST_BROKER"])
app.conf.update(
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    task_queues=[Broadcast("everywhere")] if os.environ.get("TEST_BROADCAST") else None,
)


@app.task(bind=True, shared=False, name="stock.tick")
def tick(self):
    with Path(os.environ["TEST_RECORDS"]).open("ab", buffering=0) as file:
        file.write(f"{self.request.id} {self.request.hostname}\n".encode())


app.conf.beat_schedule = {"tick": {"task": "stock.tick", "schedule": 1.0}}
