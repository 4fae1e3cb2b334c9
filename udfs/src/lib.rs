//! The SQL functions of FlashCommerce.
