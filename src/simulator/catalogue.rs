//! What the store sells, to whom and where: products, sellers, cities, ways to pay.
//!
//! The numbers of a product are calibrated, not observed: view shares, cart and purchase rates were solved so
//! that the whole store gives the published figures (see the parent module); `the_calibration_holds` adds them
//! up again. Change one and that test tells how far the totals moved.

/// A product.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product {
    pub(super) name: &'static str,
    /// Index of [`CATEGORIES`].
    pub(super) category: usize,
    /// Rupees.
    pub(super) price: u32,
    /// What the seller paid, in rupees.
    pub(super) cost: u32,
    /// Share of all views, in millionths.
    pub(super) views_ppm: u32,
    /// Views that lead to an add to cart, in thousandths.
    pub(super) carts_per_mille: u32,
    /// Views that lead to a purchase, in thousandths.
    pub(super) purchases_per_mille: u32,
    /// How many pieces are bought at a time: weights of 1, 2, 3, ...
    pub(super) pieces: &'static [u32],
}

/// A category and the sellers that trade in it, as numbers from 1.
#[derive(Debug)]
pub(super) struct Category {
    pub(super) name: &'static str,
    pub(super) sellers: std::ops::RangeInclusive<u8>,
}

/// A city with its weight among the shoppers.
#[derive(Debug, Clone, Copy)]
pub(super) struct City {
    pub(super) name: &'static str,
    pub(super) state: &'static str,
    pub(super) weight: u32,
}

const ONE: &[u32] = &[1];
const FEW: &[u32] = &[80, 15, 5];
const SEVERAL: &[u32] = &[55, 25, 15, 5];

const JEWELRY: usize = 0;
const ELECTRONICS: usize = 1;
const SPORTS: usize = 2;
const FASHION: usize = 3;
const HOME: usize = 4;
const BEAUTY: usize = 5;
const BOOKS: usize = 6;
const GROCERIES: usize = 7;

/// The categories.
pub(super) static CATEGORIES: [Category; 8] = [
    Category { name: "Jewelry", sellers: 1..=3 },
    Category { name: "Electronics", sellers: 4..=8 },
    Category { name: "Sports", sellers: 9..=11 },
    Category { name: "Fashion", sellers: 12..=15 },
    Category { name: "Home & Kitchen", sellers: 16..=18 },
    Category { name: "Beauty", sellers: 19..=20 },
    Category { name: "Books", sellers: 21..=22 },
    Category { name: "Groceries", sellers: 23..=25 },
];

const fn product(
    name: &'static str,
    category: usize,
    (price, cost): (u32, u32),
    (views_ppm, carts_per_mille, purchases_per_mille): (u32, u32, u32),
    pieces: &'static [u32],
) -> Product {
    Product { name, category, price, cost, views_ppm, carts_per_mille, purchases_per_mille, pieces }
}

/// The products: name, category, (price, cost), (share of views, cart rate, purchase rate), pieces.
#[rustfmt::skip]
pub(super) static PRODUCTS: [Product; 60] = [
    product("Diamond Ring", JEWELRY, (134_999, 99_899), (28_420, 403, 149), ONE),
    product("Gold Necklace", JEWELRY, (98_999, 77_699), (20_089, 373, 119), ONE),
    product("Gold Bangles", JEWELRY, (67_999, 53_999), (18_067, 373, 129), ONE),
    product("Diamond Earrings", JEWELRY, (54_999, 42_349), (13_295, 383, 134), ONE),
    product("Pearl Necklace", JEWELRY, (18_499, 13_299), (11_354, 413, 149), ONE),
    product("Mangalsutra", JEWELRY, (46_999, 36_659), (13_262, 393, 139), ONE),
    product("Silver Anklets", JEWELRY, (4_299, 2_999), (13_442, 452, 199), FEW),
    product("Gold Coin 5 g", JEWELRY, (64_999, 61_099), (12_356, 373, 129), ONE),
    product("Laptop", ELECTRONICS, (77_999, 63_999), (34_695, 393, 134), ONE),
    product("Smartphone", ELECTRONICS, (36_999, 29_969), (45_091, 432, 174), ONE),
    product("LED Television", ELECTRONICS, (57_999, 46_399), (26_368, 393, 134), ONE),
    product("Tablet", ELECTRONICS, (31_999, 25_279), (19_435, 413, 149), ONE),
    product("Wireless Earbuds", ELECTRONICS, (2_499, 1_649), (34_220, 491, 268), FEW),
    product("Smartwatch", ELECTRONICS, (5_999, 4_199), (25_546, 452, 209), ONE),
    product("DSLR Camera", ELECTRONICS, (67_999, 55_759), (13_181, 354, 109), ONE),
    product("Bluetooth Speaker", ELECTRONICS, (3_499, 2_399), (20_075, 452, 209), ONE),
    product("Gaming Console", ELECTRONICS, (54_999, 46_749), (15_533, 393, 134), ONE),
    product("Power Bank", ELECTRONICS, (1_499, 979), (20_976, 491, 268), FEW),
    product("Treadmill", SPORTS, (64_999, 43_549), (22_622, 393, 159), ONE),
    product("Exercise Bike", SPORTS, (22_999, 16_559), (12_801, 373, 139), ONE),
    product("Cricket Bat", SPORTS, (3_299, 2_199), (18_506, 442, 209), ONE),
    product("Badminton Racket", SPORTS, (1_899, 1_199), (15_743, 462, 228), FEW),
    product("Yoga Mat", SPORTS, (899, 519), (17_766, 491, 258), FEW),
    product("Dumbbell Set", SPORTS, (2_799, 1_849), (14_840, 452, 219), ONE),
    product("Football", SPORTS, (999, 619), (13_036, 472, 238), FEW),
    product("Trekking Backpack", SPORTS, (3_499, 2_149), (11_905, 422, 189), ONE),
    product("Silk Saree", FASHION, (8_999, 5_849), (21_785, 422, 189), ONE),
    product("Cotton Kurta", FASHION, (1_299, 729), (27_336, 472, 248), FEW),
    product("Denim Jeans", FASHION, (1_799, 1_099), (22_593, 462, 238), FEW),
    product("Running Shoes", FASHION, (3_999, 2_599), (24_394, 442, 219), ONE),
    product("Leather Jacket", FASHION, (6_499, 4_199), (11_791, 393, 159), ONE),
    product("Lehenga Choli", FASHION, (12_999, 8_699), (12_418, 393, 149), ONE),
    product("Formal Shirt", FASHION, (1_499, 879), (17_850, 452, 228), FEW),
    product("Sunglasses", FASHION, (1_999, 1_099), (13_798, 442, 209), ONE),
    product("Handbag", FASHION, (2_999, 1_799), (16_544, 442, 209), ONE),
    product("Pressure Cooker", HOME, (2_299, 1_599), (16_094, 452, 228), ONE),
    product("Mixer Grinder", HOME, (3_999, 2_849), (16_067, 432, 209), ONE),
    product("Air Fryer", HOME, (6_999, 4_999), (13_832, 413, 179), ONE),
    product("Bedsheet Set", HOME, (1_499, 899), (16_017, 462, 238), FEW),
    product("Water Purifier", HOME, (14_999, 11_399), (12_064, 373, 139), ONE),
    product("Office Chair", HOME, (8_499, 6_099), (11_941, 393, 159), ONE),
    product("Sofa Set", HOME, (39_999, 30_799), (10_078, 334, 89), ONE),
    product("Steel Dinner Set", HOME, (2_799, 1_899), (12_249, 432, 209), ONE),
    product("Table Lamp", HOME, (1_199, 739), (11_328, 442, 219), ONE),
    product("Face Serum", BEAUTY, (699, 349), (17_109, 491, 268), FEW),
    product("Lipstick", BEAUTY, (549, 259), (16_176, 491, 268), FEW),
    product("Perfume", BEAUTY, (2_499, 1_599), (13_176, 442, 219), ONE),
    product("Hair Dryer", BEAUTY, (1_899, 1_249), (11_306, 432, 209), ONE),
    product("Sunscreen", BEAUTY, (499, 269), (14_341, 501, 278), FEW),
    product("Herbal Shampoo", BEAUTY, (399, 229), (13_440, 511, 288), FEW),
    product("Atomic Habits", BOOKS, (499, 329), (12_906, 491, 288), FEW),
    product("Wings of Fire", BOOKS, (299, 179), (10_768, 511, 298), FEW),
    product("The God of Small Things", BOOKS, (399, 249), (8_718, 472, 258), FEW),
    product("Competitive Maths", BOOKS, (649, 429), (9_901, 481, 278), FEW),
    product("Cookbook of India", BOOKS, (799, 499), (7_700, 452, 238), FEW),
    product("Basmati Rice 5 kg", GROCERIES, (749, 609), (16_017, 560, 348), SEVERAL),
    product("Almonds 1 kg", GROCERIES, (899, 729), (12_911, 531, 318), SEVERAL),
    product("Assam Tea 1 kg", GROCERIES, (549, 409), (11_889, 540, 328), SEVERAL),
    product("Ghee 1 l", GROCERIES, (649, 539), (12_985, 550, 338), SEVERAL),
    product("Honey 500 g", GROCERIES, (349, 249), (9_854, 531, 318), SEVERAL),
];

const fn city(name: &'static str, state: &'static str, weight: u32) -> City {
    City { name, state, weight }
}

/// The cities; `sql/ref/cities.csv` has their coordinates.
pub(super) static CITIES: [City; 32] = [
    city("New Delhi", "Delhi", 170),
    city("Mumbai", "Maharashtra", 138),
    city("Bengaluru", "Karnataka", 98),
    city("Hyderabad", "Telangana", 74),
    city("Chennai", "Tamil Nadu", 62),
    city("Kolkata", "West Bengal", 58),
    city("Pune", "Maharashtra", 54),
    city("Ahmedabad", "Gujarat", 44),
    city("Jaipur", "Rajasthan", 32),
    city("Surat", "Gujarat", 28),
    city("Lucknow", "Uttar Pradesh", 28),
    city("Kanpur", "Uttar Pradesh", 17),
    city("Nagpur", "Maharashtra", 17),
    city("Indore", "Madhya Pradesh", 17),
    city("Bhopal", "Madhya Pradesh", 14),
    city("Patna", "Bihar", 15),
    city("Vadodara", "Gujarat", 13),
    city("Chandigarh", "Chandigarh", 15),
    city("Ludhiana", "Punjab", 11),
    city("Kochi", "Kerala", 16),
    city("Thiruvananthapuram", "Kerala", 10),
    city("Visakhapatnam", "Andhra Pradesh", 13),
    city("Coimbatore", "Tamil Nadu", 13),
    city("Bhubaneswar", "Odisha", 10),
    city("Guwahati", "Assam", 9),
    city("Ranchi", "Jharkhand", 8),
    city("Raipur", "Chhattisgarh", 8),
    city("Dehradun", "Uttarakhand", 8),
    city("Srinagar", "Jammu and Kashmir", 5),
    city("Panaji", "Goa", 5),
    city("Shimla", "Himachal Pradesh", 4),
    city("Gurugram", "Haryana", 24),
];

/// Ways to pay, with weights.
pub(super) static PAYMENTS: [(&str, u32); 6] =
    [("UPI", 56), ("Credit Card", 16), ("Debit Card", 10), ("Cash on Delivery", 10), ("Net Banking", 5), ("Wallet", 3)];

/// Devices, with weights.
pub(super) static DEVICES: [(&str, u32); 4] = [("Android", 61), ("iOS", 14), ("Mobile Web", 11), ("Desktop", 14)];

/// Reviews: rating, weight, text (as it stands between the quotes of a JSON string).
pub(super) static REVIEWS: [(u8, u32, &str); 10] = [
    (5, 22, "Excellent quality, exactly as shown"),
    (5, 14, "\\u092c\\u0939\\u0941\\u0924 \\u092c\\u0922\\u093c\\u093f\\u092f\\u093e, worth every rupee"),
    (5, 10, "बहुत अच्छा, फिर से लूँगा"),
    (4, 18, "Good value for the price"),
    (4, 10, r#"Fast delivery, \"gift wrap\" was lovely"#),
    (3, 9, "Okay for daily use"),
    (3, 4, "நல்ல தரம், but the box was torn"),
    (2, 6, "Colour differs from the photo"),
    (1, 4, "Stopped working after a week\\nReplacement took 9 days"),
    (1, 3, "Very disappointed 😞"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures of one average view: add to carts, purchases, revenue, profit.
    fn per_view() -> [f64; 4] {
        let mut sums = [0.0; 4];
        for product in PRODUCTS {
            let views = f64::from(product.views_ppm) / 1e6;
            let purchases = views * f64::from(product.purchases_per_mille) / 1e3;
            let total: u32 = product.pieces.iter().sum();
            let pieces: u32 = product.pieces.iter().zip(1..).map(|(weight, count)| weight * count).sum();
            let pieces = f64::from(pieces) / f64::from(total);
            sums[0] += views * f64::from(product.carts_per_mille) / 1e3;
            sums[1] += purchases;
            sums[2] += purchases * pieces * f64::from(product.price);
            sums[3] += purchases * pieces * f64::from(product.price - product.cost);
        }
        sums
    }

    #[test]
    fn the_calibration_holds() {
        assert_eq!(PRODUCTS.iter().map(|product| product.views_ppm).sum::<u32>(), 1_000_000);
        let [carts, purchases, revenue, profit] = per_view();
        let views = super::super::VIEWS_PER_RECORD * super::super::EVENTS_DEFAULT as f64;
        assert!((carts - 0.4415).abs() < 1e-5, "{carts}");
        assert!((purchases - 0.2068).abs() < 1e-5, "{purchases}");
        assert!((revenue * views / 357.4e6 - 1.0).abs() < 1e-4, "{}", revenue * views);
        assert!((profit * views / 83.5e6 - 1.0).abs() < 1e-3, "{}", profit * views);
        assert!((profit / revenue - 0.2337).abs() < 5e-5, "{}", profit / revenue);
    }

    #[test]
    fn every_city_has_coordinates() {
        let text = include_str!("../../sql/ref/cities.csv");
        let listed: Vec<(&str, &str)> = text
            .lines()
            .skip(1)
            .map(|line| {
                let fields: Vec<&str> = line.split(',').collect();
                assert!((8.0..37.1).contains(&fields[2].parse::<f64>().unwrap()), "{line}");
                assert!((68.0..97.5).contains(&fields[3].parse::<f64>().unwrap()), "{line}");
                (fields[0], fields[1])
            })
            .collect();
        assert_eq!(listed, CITIES.map(|city| (city.name, city.state)));
    }
}
