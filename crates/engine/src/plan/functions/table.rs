//! The table of all scalar functions of our own, by subject.

use std::sync::{Arc, LazyLock};

use datafusion::logical_expr::ScalarUDF;

use super::{
    aggregates, arithmetic, array_order, arrays, bytes, conditional, conversion, datetime, encoding, encryption,
    formats, generators, json, math, nested, raising, random, regex, session_facts, sketches, strings, vectors,
};

static FUNCTIONS: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
    let tables = [
        conversion::TABLE,
        aggregates::inputs::TABLE,
        arithmetic::TABLE,
        conditional::TABLE,
        nested::TABLE,
        generators::TABLE,
        arrays::TABLE,
        array_order::TABLE,
        strings::TABLE,
        regex::TABLE,
        encoding::TABLE,
        bytes::TABLE,
        encryption::TABLE,
        sketches::TABLE,
        formats::TABLE,
        math::TABLE,
        json::TABLE,
        random::TABLE,
        vectors::TABLE,
        raising::TABLE,
        session_facts::TABLE,
    ];
    tables.into_iter().flatten().chain(datetime::tables()).flat_map(|spec| spec.build()).collect()
});

/// Every function, once under each of its names.
pub(super) fn functions() -> &'static [Arc<ScalarUDF>] {
    &FUNCTIONS
}

/// The function by that name, if the table has it.
pub(crate) fn find(name: &str) -> Option<Arc<ScalarUDF>> {
    FUNCTIONS.iter().find(|function| function.name() == name).cloned()
}

/// `cast`, which other functions put around their arguments.
pub(crate) fn cast_function() -> Arc<ScalarUDF> {
    static CAST: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| find("cast").unwrap_or_else(|| Arc::clone(&FUNCTIONS[0])));
    Arc::clone(&CAST)
}
