//! `flash lineage` over a first project, its lake, and names that are not there.

use super::flash;

#[test]
fn columns_are_traced_to_the_source_in_a_project_and_in_a_lake() {
    let folder = tempfile::tempdir().unwrap();
    flash(folder.path(), "new shop").ok();
    let shop = folder.path().join("shop");
    let all = "raw.events  (source)\n└─ bronze.events\n   └─ silver.orders\n      └─ gold.sales_by_day\n";
    assert_eq!(flash(&shop, "lineage").ok().stdout, all);
    let revenue = "\
made of
  gold.sales_by_day.revenue
  ├─ silver.orders.price
  │  └─ bronze.events._payload
  │     └─ raw.events._payload
  └─ silver.orders.quantity
     └─ bronze.events._payload  (see above)
";
    assert_eq!(flash(&shop, "lineage gold.sales_by_day.revenue").ok().stdout, revenue);
    let view = flash(&shop, "lineage silver.orders").ok().stdout;
    for line in ["read by gold.sales_by_day", "  ordered_at  bronze.events._payload (computed)\n"] {
        assert!(view.contains(line), "no {line} in {view}");
    }
    let json = flash(&shop, "lineage gold.sales_by_day.revenue --json").ok().json();
    assert_eq!((json["nodes"].as_array().unwrap().len(), json["edges"].as_array().unwrap().len()), (5, 5), "{json}");
    assert!(flash(&shop, "lineage --dot").ok().stdout.contains("\"silver.orders\" -> \"gold.sales_by_day\";"));

    flash(&shop, "lineage --lake lake").fails(2, &["no lake at lake"]);
    flash(&shop, "run --until-caught-up").ok();
    assert_eq!(flash(&shop, "lineage --lake lake").ok().stdout, all);
    flash(&shop, "lineage gold.sale_by_day")
        .fails(2, &["there is no gold.sale_by_day", "did you mean gold.sales_by_day?"]);
    flash(&shop, "lineage gold.sales_by_day.dy").fails(2, &["has no column \"dy\"", "there are day, city, orders"]);
}
