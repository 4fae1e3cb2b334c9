"""The key figures in which all systems must agree, to the last paisa."""

import json
import subprocess

KEYS = ("silver_rows", "purchases", "revenue", "profit")
FROM_GOLD = """
SELECT (SELECT count(*) FROM silver.events) AS silver_rows,
       (SELECT sum(purchases) FROM gold.kpis) AS purchases,
       (SELECT CAST(sum(revenue) AS VARCHAR) FROM gold.kpis) AS revenue,
       (SELECT CAST(sum(profit) AS VARCHAR) FROM gold.kpis) AS profit
"""


def plain(values):
    """Counts as integers, money as text with two decimals."""
    rows, purchases, revenue, profit = values
    return {"silver_rows": int(rows), "purchases": int(purchases), "revenue": f"{revenue:.2f}", "profit": f"{profit:.2f}"}


def of_lake(binary, lake):
    from decimal import Decimal

    command = [binary, "sql", "--lake", lake, "--format", "json", "-c", FROM_GOLD]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    row = json.loads(answer)[0]
    return plain([row["silver_rows"], row["purchases"], Decimal(row["revenue"]), Decimal(row["profit"])])


def disagreements(by_system):
    texts = []
    for key in KEYS:
        values = {name: figures.get(key) for name, figures in by_system.items()}
        if len(set(values.values())) > 1:
            texts.append(f"{key}: " + ", ".join(f"{name} {value}" for name, value in values.items()))
    return texts
