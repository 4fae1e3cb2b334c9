"""What the dashboard shows, in QuickSight's words.

    revenue │ profit │ margin │ views to cart │ views to purchase      figures over kpis, rates of their totals
    from view to purchase  │  revenue by city, on a map                funnel, cities
    profit by product      │  profit by category                       products, categories
                                                                       one choice of sellers for all of them
"""

# The data sets, and what they are.
DATA_SETS = {
    "kpis": "Key figures by seller",
    "funnel": "Steps of the funnel by seller",
    "cities": "Sales by seller and city",
    "products": "Sales by seller and product",
    "categories": "Sales by seller and category",
}
# Rates are of the totals, whatever is filtered: never the mean of the sellers' rates. What they divide is cast to floating
# point in the data set: Athena's quotient of whole numbers is a whole number, and of decimals has their two digits.
RATES = {
    "margin": "sum({profit}) / sum({revenue})",
    "views_to_cart": "sum({carts}) / sum({views})",
    "views_to_purchase": "sum({purchases}) / sum({views})",
}


def column(data_set, name):
    return {"DataSetIdentifier": data_set, "ColumnName": name}


def title(text):
    return {"Visibility": "VISIBLE", "FormatText": {"PlainText": text}}


def rupees():
    shown = {"Symbol": "INR", "NumberScale": "AUTO", "DecimalPlacesConfiguration": {"DecimalPlaces": 2}}
    return {"FormatConfiguration": {"CurrencyDisplayFormatConfiguration": shown}}


def percent():
    return {"FormatConfiguration": {"PercentageDisplayFormatConfiguration": {
        "Suffix": "%", "DecimalPlacesConfiguration": {"DecimalPlaces": 2}}}}


def measure(visual, data_set, name, shown=None):
    """A sum; a rate is one of sums already."""
    field = {"FieldId": f"{visual}.{name}", "Column": column(data_set, name)}
    if name not in RATES:
        field["AggregationFunction"] = {"SimpleNumericalAggregation": "SUM"}
    if shown:
        field["FormatConfiguration"] = shown
    return {"NumericalMeasureField": field}


def category(visual, data_set, name):
    return {"CategoricalDimensionField": {"FieldId": f"{visual}.{name}", "Column": column(data_set, name)}}


def number(visual, data_set, name):
    return {"NumericalDimensionField": {"FieldId": f"{visual}.{name}", "Column": column(data_set, name)}}


def descending(visual, name):
    return [{"FieldSort": {"FieldId": f"{visual}.{name}", "Direction": "DESC"}}]


def kpi(name, text, shown):
    wells = {"Values": [measure(f"kpi-{name}", "kpis", name, shown)]}
    return {"KPIVisual": {"VisualId": f"kpi-{name}", "Title": title(text), "ChartConfiguration": {"FieldWells": wells}}}


def bars(visual, text, data_set, by):
    """Profit by something, the most profitable first."""
    wells = {"Category": [category(visual, data_set, by)], "Values": [measure(visual, data_set, "profit", rupees())]}
    return {"BarChartVisual": {
        "VisualId": visual,
        "Title": title(text),
        "ChartConfiguration": {
            "FieldWells": {"BarChartAggregatedFieldWells": wells},
            "SortConfiguration": {
                "CategorySort": descending(visual, "profit"),
                "CategoryItemsLimit": {"ItemsLimit": 10, "OtherCategories": "INCLUDE"},
            },
            "Orientation": "HORIZONTAL",
            "DataLabels": {"Visibility": "VISIBLE"},
        },
    }}


def funnel():
    wells = {"Category": [category("funnel", "funnel", "step")], "Values": [measure("funnel", "funnel", "events")]}
    return {"FunnelChartVisual": {
        "VisualId": "funnel",
        "Title": title("From view to purchase"),
        "ChartConfiguration": {
            "FieldWells": {"FunnelChartAggregatedFieldWells": wells},
            "SortConfiguration": {"CategorySort": descending("funnel", "events")},
        },
    }}


def city_map():
    wells = {
        "Geospatial": [number("map", "cities", "latitude"), number("map", "cities", "longitude")],
        "Values": [measure("map", "cities", "revenue", rupees())],
        "Colors": [category("map", "cities", "city")],
    }
    return {"GeospatialMapVisual": {
        "VisualId": "map",
        "Title": title("Revenue by city"),
        "ChartConfiguration": {"FieldWells": {"GeospatialMapAggregatedFieldWells": wells}},
    }}


def layout():
    """On a grid of 36 columns: five figures, then two rows of two."""
    places = [("kpi-revenue", 0, 0, 8, 4), ("kpi-profit", 8, 0, 7, 4), ("kpi-margin", 15, 0, 7, 4),
              ("kpi-views_to_cart", 22, 0, 7, 4), ("kpi-views_to_purchase", 29, 0, 7, 4),
              ("funnel", 0, 4, 14, 12), ("map", 14, 4, 22, 12), ("products", 0, 16, 18, 12), ("categories", 18, 16, 18, 12)]
    elements = [
        {"ElementId": visual, "ElementType": "VISUAL", "ColumnIndex": x, "RowIndex": y, "ColumnSpan": w, "RowSpan": h}
        for visual, x, y, w, h in places
    ]
    return [{"Configuration": {"GridLayout": {"Elements": elements}}}]


def definition(arn_of):
    """What is shown: the same for the analysis and the dashboard. `arn_of`: a data set's ARN by its name."""
    visuals = [
        kpi("revenue", "Revenue", rupees()), kpi("profit", "Profit", rupees()), kpi("margin", "Margin", percent()),
        kpi("views_to_cart", "Views to cart", percent()), kpi("views_to_purchase", "Views to purchase", percent()),
        funnel(), city_map(),
        bars("products", "Profit by product", "products", "product_name"),
        bars("categories", "Profit by category", "categories", "category"),
    ]
    chosen = {
        "FilterId": "seller",
        "Column": column("kpis", "seller_id"),
        "Configuration": {"FilterListConfiguration": {"MatchOperator": "CONTAINS", "SelectAllOptions": "FILTER_ALL_VALUES"}},
    }
    control = {"FilterControlId": "seller-control", "Title": "Seller", "SourceFilterId": "seller", "Type": "MULTI_SELECT"}
    sheet = {
        "SheetId": "shop", "Name": "Shop", "Title": "FlashCommerce", "ContentType": "INTERACTIVE",
        "FilterControls": [{"Dropdown": control}], "Visuals": visuals, "Layouts": layout(),
    }
    return {
        "DataSetIdentifierDeclarations": [
            {"Identifier": name, "DataSetArn": arn_of(name)} for name in DATA_SETS
        ],
        "Sheets": [sheet],
        "CalculatedFields": [
            {"DataSetIdentifier": "kpis", "Name": name, "Expression": text} for name, text in RATES.items()
        ],
        "FilterGroups": [{
            "FilterGroupId": "seller-group",
            "Filters": [{"CategoryFilter": chosen}],
            "ScopeConfiguration": {"SelectedSheets": {"SheetVisualScopingConfigurations": [
                {"SheetId": "shop", "Scope": "ALL_VISUALS"}]}},
            "Status": "ENABLED",
            # All five data sets have a column of this name.
            "CrossDataset": "ALL_DATASETS",
        }],
    }
