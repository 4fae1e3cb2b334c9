#!/usr/bin/env python3
"""Who sees which seller, for QuickSight: its rules by row, made from the lake's users and policies.

    python3 docker/aws/quicksight/rules.py --lake s3://bucket/shop > rules.csv

    system.users, roles, grants, policies, masks, dependencies ─▶ for each user: all sellers, some, or none ─▶ UserName,seller_id

A user of QuickSight is taken for the lake's user of the same name. Whoever has no line sees nothing, and that is what
becomes of everybody whose rights cannot be said in these two columns: a policy of another form than below, a mask on what is
shown, a missing grant. They are named on stderr, with the reason.

    USING (seller_id = current_seller())     the user's attribute
    USING (seller_id = 'S001')               that one;  seller_id IN ('S001', 'S002'): those
    USING (true)                             all of them: an empty cell
"""

import argparse
import csv
import os
import re
import sys

from lake import ask

# The views that the data sets read.
VIEWS = ("gold.kpis", "gold.conversion_funnel", "gold.revenue_by_city", "gold.profit_by_product", "gold.profit_by_category")
TEXT = r"'((?:[^']|'')*)'"


class Cannot(Exception):
    """It cannot be said in rules by row."""


class All:
    """Every seller, also those to come."""


def both(left, right):
    """Those in both; a set, or `All`."""
    return right if left is All else left if right is All else left & right


def either(left, right):
    return All if All in (left, right) else left | right


def names(text):
    return {name for name in text.split(", ") if name}


def attributes(text):
    pairs = [part.split(" = ") for part in text.split(", ")] if text else []
    if any(len(pair) != 2 for pair in pairs):
        raise Cannot(f"the attributes ({text}) are ambiguous")
    return dict(pairs)


def sellers(condition, user):
    """The sellers that a policy's condition lets through, for this user."""
    text = re.sub(r"\s+", " ", condition.strip())
    if text.lower() == "true":
        return All
    found = re.fullmatch(rf"\(?seller_id = (current_seller\(\)|user_attribute\('seller_id'\)|{TEXT})\)?", text, re.I)
    if found and found[2] is not None:
        return frozenset([found[2].replace("''", "'")])
    if found:
        own = attributes(user["attributes"]).get("seller_id")
        return frozenset([own] if own else [])
    if re.fullmatch(rf"\(?seller_id IN \({TEXT}(, ?{TEXT})*\)\)?", text, re.I):
        return frozenset(name.replace("''", "'") for name in re.findall(TEXT, text))
    raise Cannot(f"the policy USING ({condition}) is of another form")


class Lake:
    """The tables of `system` that tell it."""

    def __init__(self, read):
        self.users = read("SELECT * FROM system.users")
        self.roles = {row["role_name"]: names(row["roles"]) for row in read("SELECT * FROM system.roles")}
        self.grants = read("SELECT * FROM system.grants WHERE privilege = 'SELECT'")
        self.policies = read("SELECT * FROM system.policies")
        self.masks = read("SELECT * FROM system.masks")
        self.inputs = {}
        for row in read("SELECT * FROM system.dependencies"):
            self.inputs.setdefault(row["view_name"], set()).add(row["input_name"])
        views = read("SELECT view_name, definition FROM system.materialized_views")
        self.definitions = {row["view_name"]: row["definition"] for row in views}

    def roles_of(self, user):
        """Those that were given, with theirs, and `public`."""
        found, ahead = {"public"}, names(user["roles"])
        while ahead:
            role = ahead.pop()
            found.add(role)
            ahead |= self.roles.get(role, set()) - found
        return found

    def below(self, view):
        """The view and all that it is built on, with the views between the two."""
        paths, ahead = {view: {view}}, [view]
        while ahead:
            name = ahead.pop()
            for below in self.inputs.get(name, ()):
                between = paths[name] | paths.get(below, set())
                if paths.get(below) != between | {below}:
                    paths[below] = between | {below}
                    ahead.append(below)
        return paths

    def seen(self, user):
        """All sellers, or some; `Cannot` where that isn't all that there is to say."""
        roles = self.roles_of(user)
        if "admin" in roles:
            return All
        seen = All
        for view in VIEWS:
            granted = {view, view.split(".")[0] + ".*"}
            if not any(row["grantee"] in roles | {user["user_name"]} and row["object_name"] in granted for row in self.grants):
                raise Cannot(f"SELECT on {view} is not granted")
            for table, path in self.below(view).items():
                self.refuse_masks(table, path - {table} or {view}, roles)
                seen = both(seen, self.of_table(table, roles, user))
        return seen

    def of_table(self, table, roles, user):
        on_table = [row for row in self.policies if row["object_name"] == table]
        if not on_table:
            return All
        ours = [row for row in on_table if names(row["roles"]) & roles]
        seen = frozenset()
        for row in ours:
            if row["kind"] == "permissive":
                seen = either(seen, sellers(row["condition"], user))
        for row in ours:
            if row["kind"] == "restrictive":
                seen = both(seen, sellers(row["condition"], user))
        return seen

    def refuse_masks(self, table, readers, roles):
        """QuickSight would show what the lake hides."""
        for mask in self.masks:
            word = re.compile(rf"\b{re.escape(mask['column_name'])}\b")
            if mask["object_name"] == table and names(mask["roles"]) & roles:
                users = [name for name in readers if word.search(self.definitions.get(name, "")) or name == table]
                if users:
                    raise Cannot(f"{table}.{mask['column_name']} is masked, and {', '.join(sorted(users))} may show it")


def rules(lake):
    """Lines of the file, and who is left out: name -> reason."""
    lines, left_out = [], {}
    for user in lake.users:
        name = user["user_name"]
        try:
            if user["enabled"] != "true":
                raise Cannot("the user is disabled")
            seen = lake.seen(user)
            if seen is All:
                lines.append((name, ""))
            elif not seen:
                raise Cannot("the policies show no seller")
            elif any("," in seller or not seller for seller in seen):
                raise Cannot("a seller's name has a comma, or is empty")
            else:
                lines.append((name, ",".join(sorted(seen))))
        except Cannot as reason:
            left_out[name] = str(reason)
    return lines, left_out


def write(lines, file):
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("UserName", "seller_id"))
    writer.writerows(lines)


def main():
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--flash", default=os.environ.get("FLASH", "flash"), help="the program")
    flags.add_argument("--lake", required=True, help="a folder, or s3://bucket/prefix")
    options = flags.parse_args()
    lake = Lake(lambda sql: ask(options.flash, ["--lake", options.lake], sql))
    if not lake.users:
        sys.exit("the lake has no users: everybody sees everything there, so there are no rules to make")
    lines, left_out = rules(lake)
    write(lines, sys.stdout)
    for name, reason in left_out.items():
        print(f"{name} sees nothing: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
