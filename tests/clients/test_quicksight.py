"""The dashboard for QuickSight, as far as it can be judged without AWS.

    FLASH=target/release/flash python test_quicksight.py [quicksight figures rows]

1. The requests, made anew, are those that are kept; of the shape that AWS's own model wants; and what is shown is there.
2. The tiles' sums and rates are those of the events.
3. The rules by row: a user sees in QuickSight whom they see in the lake, or nobody.

Needs the packages of requirements.txt (botocore comes with ministack).
"""

import glob
import json
import os
import re
import subprocess
import sys
import tempfile

import botocore.session
import botocore.validate

from flight_sql import Client
from served import FLASH, serve

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
QUICKSIGHT = os.path.join(ROOT, "docker", "aws", "quicksight")
sys.path.insert(0, QUICKSIGHT)
import lake  # noqa: E402
import make  # noqa: E402
import rules  # noqa: E402


def read(path):
    with open(path) as file:
        return json.load(file)


def quicksight():
    views = lake.columns(FLASH)
    made = make.make(make.flags([]), views)
    kept = {os.path.basename(path)[:-5]: read(path) for path in glob.glob(f"{QUICKSIGHT}/definitions/*.json")}
    assert made == kept, "sql/ or make.py has changed: python3 docker/aws/quicksight/make.py"
    model = botocore.session.get_session().get_service_model("quicksight")
    operations = {"data_source": "CreateDataSource", "data_set": "CreateDataSet", "analysis": "CreateAnalysis",
                  "dashboard": "CreateDashboard"}
    for name, request in made.items():
        operation = next(call for kind, call in operations.items() if name.startswith(kind))
        shape = model.operation_model(operation).input_shape
        report = botocore.validate.ParamValidator().validate(request, shape)
        assert not report.has_errors(), f"{name}: {report.generate_report()}"
        enums(request, shape, name)
    assert made["analysis"]["Definition"] == made["dashboard"]["Definition"]
    references(made)


def figures():
    """The tiles' sums are those of the events."""
    with tempfile.TemporaryDirectory() as folder:
        events, where = f"{folder}/events.jsonl", ["--lake", f"{folder}/lake"]
        quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([FLASH, "simulate", "--events", "3000", "--out", events], **quiet)
        source = ["--source", f"raw.events=jsonl:{events}", "--until-caught-up"]
        subprocess.run([FLASH, "run", "--project", os.path.join(ROOT, "sql"), *where, *source], **quiet)
        one = lambda sql: float(lake.ask(FLASH, where, f"SELECT CAST({sql} AS DOUBLE) AS n")[0]["n"])
        of = lambda kind: f"(SELECT count(*) FROM silver.events WHERE event_type = '{kind}')"
        money = lambda column: f"(SELECT sum({column}) FROM silver.events)"
        expected = {"margin": f"{money('profit')} / {money('revenue')}",
                    "views_to_cart": f"{of('add_to_cart')} * 1.0 / {of('view')}",
                    "views_to_purchase": f"{of('purchase')} * 1.0 / {of('view')}"}
        for name, rate in make.RATES.items():
            # The data set casts them.
            text_of_rate = re.sub(r"\{(\w+)\}", r"CAST(\1 AS DOUBLE)", rate)
            shown = one(f"(SELECT {text_of_rate} FROM gold.kpis)")
            assert abs(shown - one(expected[name])) < 1e-6, f"{name}: {shown}"
        for view in ("kpis", "profit_by_product", "profit_by_category"):
            assert one(f"(SELECT sum(profit) FROM gold.{view})") == one(money("profit")), view
        found = lake.ask(FLASH, where, "SELECT sum(views) AS v, sum(carts) AS c, sum(purchases) AS p FROM gold.conversion_funnel")[0]
        assert [float(found[step]) for step in "vcp"] == [one(of(kind)) for kind in ("view", "add_to_cart", "purchase")]


def enums(value, shape, path):
    """botocore leaves words and patterns unchecked."""
    if shape.type_name == "structure":
        for name, inner in value.items():
            enums(inner, shape.members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        for inner in value:
            enums(inner, shape.member, path)
    elif shape.type_name == "map":
        for name, inner in value.items():
            enums(name, shape.key, path)
            enums(inner, shape.value, f"{path}.{name}")
    elif shape.type_name == "string":
        assert not shape.enum or value in shape.enum, f"{path}: {value} is none of {shape.enum}"
        pattern = shape.metadata.get("pattern")
        # Java's classes of characters are not Python's.
        if pattern and r"\p{" not in pattern:
            assert re.search(pattern, value), f"{path}: {value!r} is not {pattern}"


def references(made):
    """Whatever is named is there: data sets, columns, fields, elements."""
    columns = {}
    for name in make.DATA_SETS:
        (table,) = made[f"data_set_{name}"]["PhysicalTableMap"].values()
        (found,) = table.values()
        columns[name] = {one["Name"] for one in found.get("InputColumns") or found["Columns"]}
        assert "seller_id" in columns[name], f"{name} cannot be told apart by seller"
        assert made[f"data_set_{name}"]["RowLevelPermissionDataSet"]["Status"] == "ENABLED", name
    shown = made["dashboard"]["Definition"]
    (logical,) = made["data_set_kpis"]["LogicalTableMap"].values()
    cast = {found["ColumnName"] for found in walk(logical, "NewColumnType")}
    for field in shown["CalculatedFields"]:
        needed = set(re.findall(r"\{(\w+)\}", field["Expression"]))
        assert needed <= cast, f"{field['Name']} would divide whole numbers"
        assert needed <= columns[field["DataSetIdentifier"]], field
        columns[field["DataSetIdentifier"]].add(field["Name"])
    declared = {one["Identifier"] for one in shown["DataSetIdentifierDeclarations"]}
    assert declared == set(columns)
    for found in walk(shown, "ColumnName"):
        assert found["ColumnName"] in columns[found["DataSetIdentifier"]], found
    fields = {found["FieldId"] for found in walk(shown, "FieldId") if "Column" in found}
    assert {found["FieldId"] for found in walk(shown, "Direction")} <= fields
    (sheet,) = shown["Sheets"]
    visuals = [found["VisualId"] for found in walk(sheet["Visuals"], "VisualId")]
    placed = [found["ElementId"] for found in walk(sheet["Layouts"], "ElementId")]
    assert sorted(visuals) == sorted(placed) and len(set(visuals)) == 9, (visuals, placed)


def walk(value, key):
    if isinstance(value, dict):
        if key in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from walk(inner, key)


VIEW_BODIES = {
    "kpis": "SELECT seller_id, sum(n) AS revenue FROM silver.events GROUP BY seller_id",
    "conversion_funnel": "SELECT seller_id, count(*) AS views FROM silver.events GROUP BY seller_id",
    "revenue_by_city": "SELECT seller_id, city, sum(n) AS revenue FROM silver.events GROUP BY seller_id, city",
    "profit_by_product": "SELECT seller_id, sum(n) AS profit FROM silver.events GROUP BY seller_id",
    "profit_by_category": "SELECT seller_id, max(n) AS profit FROM silver.events GROUP BY seller_id",
}
OBJECTS = {
    "public/events": "CREATE TABLE public.events (seller_id VARCHAR, city VARCHAR, user_id VARCHAR, n BIGINT)",
    "silver/events": "CREATE MATERIALIZED VIEW silver.events AS SELECT * FROM public.events",
    **{f"gold/{name}": f"CREATE MATERIALIZED VIEW gold.{name} AS {body}" for name, body in VIEW_BODIES.items()},
}
PEOPLE = """
CREATE ROLE seller; CREATE ROLE analyst; CREATE ROLE east; CREATE ROLE odd; CREATE ROLE masked; CREATE ROLE poor;
GRANT SELECT ON SCHEMA gold TO seller, analyst, odd, masked;
GRANT SELECT ON gold.kpis TO poor;
CREATE POLICY own ON silver.events TO seller USING (seller_id = current_seller());
CREATE POLICY all_rows ON silver.events TO analyst, masked, poor USING (true);
CREATE POLICY some ON silver.events TO odd USING (n > 1);
CREATE POLICY east ON silver.events AS RESTRICTIVE TO east USING (seller_id IN ('S001', 'S002'));
CREATE MASK users ON silver.events (user_id) TO analyst USING (md5(user_id));
CREATE MASK cities ON silver.events (city) TO masked USING ('?');
CREATE USER asha PASSWORD 'a long password' ROLE seller ATTRIBUTES (seller_id = 'S001');
CREATE USER bala PASSWORD 'a long password' ROLE seller;
CREATE USER anna PASSWORD 'a long password' ROLE analyst;
CREATE USER eva PASSWORD 'a long password' ROLE analyst;
GRANT east TO eva;
CREATE USER otto PASSWORD 'a long password' ROLE odd;
CREATE USER mask PASSWORD 'a long password' ROLE masked;
CREATE USER paul PASSWORD 'a long password' ROLE poor
"""
RULES = {"root": "", "asha": "S001", "anna": "", "eva": "S001,S002"}
LEFT_OUT = {"bala": "no seller", "otto": "another form", "mask": "is masked", "paul": "not granted"}


def rows():
    """A user sees in QuickSight whom they see in the lake, or nobody."""
    with tempfile.TemporaryDirectory() as folder:
        with serve(folder, OBJECTS) as server:
            client = Client(server.url)
            client.update("INSERT INTO public.events VALUES ('S001', 'Pune', 'u', 1), ('S002', 'Delhi', 'v', 2), ('S003', 'Goa', 'w', 3)")
            client.update("CREATE USER root PASSWORD 'a long password' ROLE admin")
            client.log_in("root", "a long password")
            for statement in PEOPLE.strip().split(";"):
                client.update(statement)
            where = ["--lake", f"{folder}/lake"]
            lines, left_out = rules.rules(rules.Lake(lambda sql: lake.ask(FLASH, where, sql)))
            assert dict(lines) == RULES, lines
            assert left_out.keys() == LEFT_OUT.keys() and all(LEFT_OUT[one] in left_out[one] for one in LEFT_OUT), left_out
            for name, allowed in lines:
                own = Client(server.url)
                own.log_in(name, "a long password")
                seen = {row[0] for row in own.rows("SELECT DISTINCT seller_id FROM gold.kpis")}
                ruled = set(allowed.split(",")) if allowed else {"S001", "S002", "S003"}
                assert seen == ruled, f"{name} sees {seen}, and by the rules {ruled}"


def main():
    for check in (quicksight, figures, rows):
        if not sys.argv[1:] or check.__name__ in sys.argv[1:]:
            check()
            print(f"{check.__name__}: ok")


if __name__ == "__main__":
    main()
