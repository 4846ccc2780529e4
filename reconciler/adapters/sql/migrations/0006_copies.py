"""Of every copy: where its host stands, until when it is paid for, and how often it is asked for."""

from sqlalchemy import Connection, text


def up(connection: Connection) -> None:
    """Three columns that are empty until the next look learns them; times are text or timestamps as in the other columns."""
    moment = "VARCHAR(27)" if connection.dialect.name == "sqlite" else "TIMESTAMP WITH TIME ZONE"
    for column in ("region VARCHAR", f"expires_at {moment}", "downloads_per_hour INTEGER"):
        connection.execute(text(f"ALTER TABLE content_distribution ADD COLUMN {column}"))
