//! Functions that Spark has and this has not, by family: why, and what to use instead.
//!
//! A call of one of them is told so, where "did you mean" would send the user to look for a spelling. The list is also
//! the one in `docs/sql/functions.md`; a test compares them.

use datafusion::sql::sqlparser::ast::Function;

use crate::error::{EngineError, Span};

/// Functions that are missing for one reason.
pub(crate) struct Family {
    pub(crate) names: &'static [&'static str],
    /// Why they are not here.
    pub(crate) why: &'static str,
    /// What does the same, or nearly.
    pub(crate) instead: &'static str,
}

/// All of them; a name stands once.
pub(crate) const FAMILIES: &[Family] = &[
    Family {
        names: &[
            "parse_json",
            "try_parse_json",
            "variant_get",
            "try_variant_get",
            "is_variant_null",
            "is_valid_variant",
            "schema_of_variant",
            "schema_of_variant_agg",
            "to_variant_object",
            "variant_array_append",
            "variant_delete",
            "variant_insert",
            "variant_set",
            "variant_strip_nulls",
            "try_variant_array_append",
            "try_variant_insert",
            "try_variant_set",
            "variant_explode",
            "variant_explode_outer",
        ],
        why: "there is no type VARIANT",
        instead: "keep the document as STRING, and read it with get_json_object, json_tuple or from_json",
    },
    Family {
        names: &[
            "from_xml",
            "to_xml",
            "schema_of_xml",
            "xpath",
            "xpath_boolean",
            "xpath_double",
            "xpath_float",
            "xpath_int",
            "xpath_long",
            "xpath_number",
            "xpath_short",
            "xpath_string",
        ],
        why: "XML is not read",
        instead: "use regexp_extract for single values, or turn the documents into JSON before they are written to the topic",
    },
    Family {
        names: &[
            "kll_merge_agg_bigint",
            "kll_merge_agg_double",
            "kll_merge_agg_float",
            "kll_sketch_agg_bigint",
            "kll_sketch_agg_double",
            "kll_sketch_agg_float",
            "kll_sketch_get_n_bigint",
            "kll_sketch_get_n_double",
            "kll_sketch_get_n_float",
            "kll_sketch_get_quantile_bigint",
            "kll_sketch_get_quantile_double",
            "kll_sketch_get_quantile_float",
            "kll_sketch_get_rank_bigint",
            "kll_sketch_get_rank_double",
            "kll_sketch_get_rank_float",
            "kll_sketch_merge_bigint",
            "kll_sketch_merge_double",
            "kll_sketch_merge_float",
            "kll_sketch_to_string_bigint",
            "kll_sketch_to_string_double",
            "kll_sketch_to_string_float",
            "theta_difference",
            "theta_intersection",
            "theta_intersection_agg",
            "theta_sketch_agg",
            "theta_sketch_estimate",
            "theta_union",
            "theta_union_agg",
            "tuple_difference_double",
            "tuple_difference_integer",
            "tuple_difference_theta_double",
            "tuple_difference_theta_integer",
            "tuple_intersection_agg_double",
            "tuple_intersection_agg_integer",
            "tuple_intersection_double",
            "tuple_intersection_integer",
            "tuple_intersection_theta_double",
            "tuple_intersection_theta_integer",
            "tuple_sketch_agg_double",
            "tuple_sketch_agg_integer",
            "tuple_sketch_estimate_double",
            "tuple_sketch_estimate_integer",
            "tuple_sketch_summary_double",
            "tuple_sketch_summary_integer",
            "tuple_sketch_theta_double",
            "tuple_sketch_theta_integer",
            "tuple_union_agg_double",
            "tuple_union_agg_integer",
            "tuple_union_double",
            "tuple_union_integer",
            "tuple_union_theta_double",
            "tuple_union_theta_integer",
            "approx_top_k_accumulate",
            "approx_top_k_combine",
            "approx_top_k_estimate",
        ],
        why: "of sketches only those of HyperLogLog are values here",
        instead: "use hll_sketch_agg for counts, percentile_approx or approx_top_k, which keep theirs as state",
    },
    Family {
        names: &["from_protobuf", "to_protobuf"],
        why: "Protocol Buffers are not read",
        instead: "have the records written to the topic as JSON",
    },
    Family {
        names: &["st_asbinary", "st_geogfromwkb", "st_geomfromwkb", "st_setsrid", "st_srid"],
        why: "there are no types GEOGRAPHY and GEOMETRY",
        instead: "keep the coordinates as DOUBLE columns, or the well-known binary as BINARY",
    },
    Family {
        names: &[
            "current_time",
            "localtime",
            "make_time",
            "to_time",
            "try_to_time",
            "time_diff",
            "time_trunc",
            "time_from_micros",
            "time_from_millis",
            "time_from_seconds",
            "time_to_micros",
            "time_to_millis",
            "time_to_seconds",
        ],
        why: "there is no type TIME",
        instead: "use TIMESTAMP_NTZ, or date_format(ts, 'HH:mm:ss') for a text",
    },
    Family {
        names: &["timestamp_nanos", "unix_nanos"],
        why: "times have microseconds",
        instead: "use timestamp_micros and unix_micros",
    },
    Family {
        names: &["collate", "collation", "collations"],
        why: "strings are compared by their bytes",
        instead: "compare lower(a) with lower(b)",
    },
    Family {
        names: &[
            "monotonically_increasing_id",
            "spark_partition_id",
            "input_file_name",
            "input_file_block_start",
            "input_file_block_length",
        ],
        why: "where a row is computed may change when a batch is run again, after a restart or a rescaling, and with it the result",
        instead: "use columns of the source that stay, such as partition and offset of a Kafka topic, or row_number() OVER (...)",
    },
    Family {
        names: &["java_method", "reflect", "try_reflect"],
        why: "there is no JVM",
        instead: "use a function of SQL",
    },
    Family {
        names: &["vector_sum", "vector_avg", "counter_diff", "collect_union"],
        why: "they are not written yet",
        instead: "explode the vectors and group by their places; take a counter's difference to lag(value)",
    },
];

/// The family of a name, which is in lower case.
fn family(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.names.contains(&name))
}

/// Refuses a call of a function that only Spark has.
pub(super) fn check(function: &Function, name: &str) -> Result<(), EngineError> {
    let Some(family) = family(name) else { return Ok(()) };
    let message = format!("[UNSUPPORTED_FEATURE] Spark has the function {name}, Highwater has not: {}", family.why);
    let start = function.name.0.first().and_then(|part| part.as_ident()).map(|ident| ident.span.start);
    let error = match start.filter(|start| start.line > 0) {
        Some(start) => {
            let length = name.chars().count() as u64;
            EngineError::query_at(Span { line: start.line, column: start.column, length }, message)
        }
        None => EngineError::query(message),
    };
    Err(error.help(family.instead))
}
