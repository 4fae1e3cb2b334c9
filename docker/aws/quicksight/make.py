#!/usr/bin/env python3
"""The dashboard for QuickSight, as files for `aws quicksight create-... --cli-input-json file://...`.

    python3 docker/aws/quicksight/make.py --account 111122223333 --region ap-south-1

    sql/gold ──an empty lake──▶ columns, types ─┬─▶ data_set_*.json       five, over Athena, with rules by row
                                                └─▶ analysis.json, dashboard.json
                                                    data_source_*.json    Athena, and the file of the rules

The files beside this program are its own output for an account that does not exist. Not yet tried against an AWS account:
their shape is checked against the service's model, their names and columns against each other.
"""

import argparse
import json
import os

from lake import HERE, columns
from tiles import DATA_SETS, RATES, definition

# The views that the data sets read; the funnel is a query, which turns columns into rows.
VIEWS = {"kpis": "kpis", "cities": "revenue_by_city", "products": "profit_by_product", "categories": "profit_by_category"}
FUNNEL = """SELECT seller_id, step, place, events
FROM {database}.conversion_funnel
CROSS JOIN UNNEST(ARRAY['Views', 'Carts', 'Purchases'], ARRAY[1, 2, 3], ARRAY[views, carts, purchases]) AS t (step, place, events)"""
FUNNEL_NEEDS = {"seller_id": "STRING", "views": "INTEGER", "carts": "INTEGER", "purchases": "INTEGER"}
FUNNEL_COLUMNS = [("seller_id", "STRING"), ("step", "STRING"), ("place", "INTEGER"), ("events", "INTEGER")]
PLACES = {"latitude": "LATITUDE", "longitude": "LONGITUDE", "city": "CITY", "state": "STATE"}
# What an owner may do: {} stands for the kind of thing.
OWNER = ["Describe{}", "Describe{}Permissions", "Update{}", "Delete{}", "Update{}Permissions"]
OWNER_ALSO = {
    "DataSource": ["PassDataSource"],
    "DataSet": ["PassDataSet", "DescribeIngestion", "ListIngestions", "CreateIngestion", "CancelIngestion"],
    "Analysis": ["QueryAnalysis", "RestoreAnalysis"],
    "Dashboard": ["QueryDashboard", "ListDashboardVersions", "UpdateDashboardPublishedVersion"],
}


def column_type(arrow):
    """QuickSight's type for a column that Athena shows of this Arrow type."""
    if arrow.startswith(("Utf8", "LargeUtf8")):
        return {"Type": "STRING"}
    if arrow.startswith("Int"):
        return {"Type": "INTEGER"}
    if arrow.startswith("Decimal"):
        return {"Type": "DECIMAL", "SubType": "FIXED"}
    if arrow.startswith("Float"):
        return {"Type": "DECIMAL", "SubType": "FLOAT"}
    if arrow.startswith(("Timestamp", "Date")):
        return {"Type": "DATETIME"}
    if arrow == "Boolean":
        return {"Type": "BOOLEAN"}
    raise ValueError(f"QuickSight has no type for {arrow}")


class Names:
    """Where everything is, and whose."""

    def __init__(self, options):
        self.options = options
        self.arn = f"arn:aws:quicksight:{options.region}:{options.account}"

    def of(self, kind, name):
        return f"{self.arn}:{kind}/{name}"

    def set_id(self, name):
        return f"flashcommerce-{name}"

    def head(self, kind, name, title):
        """What every request begins with. Without permissions only the API would see what it made."""
        actions = [f"quicksight:{action.format(kind)}" for action in OWNER + OWNER_ALSO[kind]]
        permissions = [{"Principal": self.options.owner, "Actions": actions}]
        return {"AwsAccountId": self.options.account, f"{kind}Id": self.set_id(name), "Name": title, "Permissions": permissions}


def data_sources(names):
    options = names.options
    athena = {
        **names.head("DataSource", "athena", "FlashCommerce: gold, by Athena"),
        "Type": "ATHENA",
        "DataSourceParameters": {"AthenaParameters": {"WorkGroup": options.workgroup}},
        "SslProperties": {"DisableSsl": False},
    }
    manifest = {"Bucket": options.bucket, "Key": "quicksight/manifest.json"}
    rules = {
        **names.head("DataSource", "rules", "FlashCommerce: who sees which seller"),
        "Type": "S3",
        "DataSourceParameters": {"S3Parameters": {"ManifestFileLocation": manifest}},
    }
    return {"data_source_athena": athena, "data_source_rules": rules}


def rules_set(names):
    """Who sees which seller: the file that rules.py writes. It has to be in SPICE."""
    table = {
        "DataSourceArn": names.of("datasource", names.set_id("rules")),
        "UploadSettings": {"Format": "CSV", "ContainsHeader": True, "Delimiter": ",", "TextQualifier": "DOUBLE_QUOTE"},
        "InputColumns": [{"Name": name, "Type": "STRING"} for name in ("UserName", "seller_id")],
    }
    return {
        **names.head("DataSet", "rules", "FlashCommerce: who sees which seller"),
        "PhysicalTableMap": {"rules": {"S3Source": table}},
        "ImportMode": "SPICE",
        "UseAs": "RLS_RULES",
    }


def data_set(names, name, views):
    source = names.of("datasource", names.set_id("athena"))
    if name == "funnel":
        given = dict(views["conversion_funnel"])
        assert {c: column_type(given[c])["Type"] for c in FUNNEL_NEEDS} == FUNNEL_NEEDS, "the funnel's columns have changed"
        found = [{"Name": column, "Type": kind} for column, kind in FUNNEL_COLUMNS]
        sql = FUNNEL.format(database=names.options.database)
        table = {"CustomSql": {"DataSourceArn": source, "Name": name, "SqlQuery": sql, "Columns": found}}
    else:
        found = [{"Name": column, **column_type(arrow)} for column, arrow in views[VIEWS[name]]]
        place = {"Catalog": "AwsDataCatalog", "Schema": names.options.database, "Name": VIEWS[name]}
        table = {"RelationalTable": {"DataSourceArn": source, **place, "InputColumns": found}}
    transforms = [
        {"TagColumnOperation": {"ColumnName": column["Name"], "Tags": [{"ColumnGeographicRole": PLACES[column["Name"]]}]}}
        for column in found if column["Name"] in PLACES
    ]
    if name == "kpis":
        transforms += [{"CastColumnTypeOperation": {"ColumnName": one["Name"], "NewColumnType": "DECIMAL", "SubType": "FLOAT"}}
                 for one in found if any(f"{{{one['Name']}}}" in rate for rate in RATES.values())]
    logical = {"Alias": name, "Source": {"PhysicalTableId": name}, **({"DataTransforms": transforms} if transforms else {})}
    return {
        **names.head("DataSet", name, f"FlashCommerce: {DATA_SETS[name]}"),
        "PhysicalTableMap": {name: table},
        "LogicalTableMap": {name: logical},
        # Asked when it is looked at: the lake is seconds old, a copy in SPICE as old as its schedule.
        "ImportMode": "DIRECT_QUERY",
        "RowLevelPermissionDataSet": {
            "Arn": names.of("dataset", names.set_id("rules")),
            "PermissionPolicy": "GRANT_ACCESS",
            "FormatVersion": "VERSION_1",
            "Status": "ENABLED",
        },
    }


def make(options, views):
    """File name -> request."""
    names = Names(options)
    shown = definition(lambda name: names.of("dataset", names.set_id(name)))
    publish = {"AdHocFilteringOption": {"AvailabilityStatus": "ENABLED"},
               "ExportToCSVOption": {"AvailabilityStatus": "ENABLED"}}
    return {
        **data_sources(names),
        "data_set_rules": rules_set(names),
        **{f"data_set_{name}": data_set(names, name, views) for name in DATA_SETS},
        "analysis": {**names.head("Analysis", "shop", "FlashCommerce"), "Definition": shown},
        "dashboard": {**names.head("Dashboard", "shop", "FlashCommerce"), "Definition": shown,
                      "DashboardPublishOptions": publish},
    }


def flags(arguments=None):
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--flash", default=os.environ.get("FLASH", "flash"), help="the program")
    flags.add_argument("--account", default="111122223333")
    flags.add_argument("--region", default="ap-south-1")
    flags.add_argument("--database", default="flashcommerce_gold", help="the Glue database of gold")
    flags.add_argument("--workgroup", default="flashcommerce-readers", help="of Athena")
    flags.add_argument("--bucket", default="flashcommerce-lake", help="with quicksight/manifest.json and quicksight/rules.csv")
    flags.add_argument("--owner", help="ARN of the QuickSight user or group that owns it; the user admin/owner unless given")
    flags.add_argument("--out", default=os.path.join(HERE, "definitions"))
    options = flags.parse_args(arguments)
    options.owner = options.owner or f"arn:aws:quicksight:{options.region}:{options.account}:user/default/admin/owner"
    return options


def main():
    options = flags()
    os.makedirs(options.out, exist_ok=True)
    for name, request in make(options, columns(options.flash)).items():
        with open(os.path.join(options.out, f"{name}.json"), "w") as file:
            json.dump(request, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
