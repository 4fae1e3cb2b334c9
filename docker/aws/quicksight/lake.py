"""What the lake says, by the program itself."""

import csv
import io
import os
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))


def ask(flash, where, sql):
    """Rows of an answer as dictionaries of text; NULL is the empty text. `where`: flags such as --lake or --server."""
    command = [flash, "sql", *where, "--format", "csv", "-c", sql]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return list(csv.DictReader(io.StringIO(done.stdout)))


def columns(flash, project=os.path.join(REPOSITORY, "sql")):
    """Views of gold -> their columns and types, as they come of the definitions: by an empty lake of them."""
    with tempfile.TemporaryDirectory() as folder:
        lake, nothing = os.path.join(folder, "lake"), os.path.join(folder, "nothing.jsonl")
        open(nothing, "w").close()
        source = f"raw.events=jsonl:{nothing}"
        command = [flash, "run", "--project", project, "--lake", lake, "--source", source, "--until-caught-up"]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        sql = """SELECT table_name, column_name, data_type FROM information_schema.columns
                 WHERE table_schema = 'gold' ORDER BY table_name, ordinal_position"""
        views = {}
        for row in ask(flash, ["--lake", lake], sql):
            views.setdefault(row["table_name"], []).append((row["column_name"], row["data_type"]))
        return views
