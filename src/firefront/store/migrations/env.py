"""What Alembic runs around the steps: they go through the connection they are given.

Only Alembic can import this file. Owns nothing; the transaction is the caller's.
"""

from alembic import context
from alembic.context import config

from firefront.store.tables import metadata

context.configure(connection=config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
