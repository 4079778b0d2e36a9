//! Attribute sets beside a reference model: any row of operations gives what it gives on ordered maps.

use proptest::prelude::*;
use rednix_eval::{Evaluator, MemoryWorld, Settings};
use std::collections::BTreeMap;

type Model = BTreeMap<String, i64>;

#[derive(Clone, Debug)]
enum Operation {
    Update(Model),
    /// The set on the right, so that what was there wins.
    UpdateBelow(Model),
    Remove(Vec<String>),
    Intersect(Model),
    Map(i64),
    Filter(i64),
    Rebuild,
}

fn name() -> impl Strategy<Value = String> {
    (0u32..60).prop_map(|number| format!("n{number}"))
}

fn model(most: usize) -> impl Strategy<Value = Model> {
    prop::collection::btree_map(name(), -50i64..50, 0..most)
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => model(4).prop_map(Operation::Update),
        2 => model(40).prop_map(Operation::Update),
        2 => model(40).prop_map(Operation::UpdateBelow),
        2 => prop::collection::vec(name(), 0..5).prop_map(Operation::Remove),
        1 => model(60).prop_map(Operation::Intersect),
        1 => (-3i64..3).prop_map(Operation::Map),
        1 => (-50i64..50).prop_map(Operation::Filter),
        1 => Just(Operation::Rebuild),
    ]
}

fn written(set: &Model) -> String {
    let bindings: Vec<String> = set.iter().map(|(name, value)| format!("{name} = {value};")).collect();
    format!("{{ {} }}", bindings.join(" "))
}

/// The same step as an expression over `s`, and on the model.
fn step(operation: &Operation, set: &mut Model) -> String {
    match operation {
        Operation::Update(other) => {
            set.extend(other.clone());
            format!("s // {}", written(other))
        }
        Operation::UpdateBelow(other) => {
            let mut below = other.clone();
            below.append(set);
            *set = below;
            format!("{} // s", written(other))
        }
        Operation::Remove(names) => {
            set.retain(|name, _| !names.contains(name));
            let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
            format!("removeAttrs s [ {} ]", names.join(" "))
        }
        Operation::Intersect(other) => {
            set.retain(|name, _| other.contains_key(name));
            format!("intersectAttrs {} s", written(other))
        }
        Operation::Map(number) => {
            set.values_mut().for_each(|value| *value += number);
            format!("mapAttrs (_: v: v + ({number})) s")
        }
        Operation::Filter(number) => {
            set.retain(|_, value| *value < *number);
            format!("removeAttrs s (filter (n: s.${{n}} >= ({number})) (attrNames s))")
        }
        Operation::Rebuild => "listToAttrs (map (n: { name = n; value = s.${n}; }) (attrNames s))".to_owned(),
    }
}

fn evaluate(source: &str, collect_always: bool) -> String {
    let settings = Settings { collect_always, ..Settings::default() };
    let mut evaluator = Evaluator::new(Box::new(MemoryWorld::new()), settings);
    let value = evaluator.text(source.as_bytes(), b"/").expect("it parses");
    let text = evaluator.to_json(value).expect("it evaluates");
    String::from_utf8(text).expect("names are ASCII")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn sets_are_ordered_maps(start in model(40), operations in prop::collection::vec(operation(), 0..25), asked in name()) {
        let mut set = start.clone();
        let mut expression = String::from("with builtins; let s0 = ") + &written(&start) + ";\n";
        for (index, operation) in operations.iter().enumerate() {
            let next = step(operation, &mut set);
            expression += &format!("s{} = let s = s{index}; in {next};\n", index + 1);
        }
        let last = format!("s{}", operations.len());
        expression += &format!(
            "in {{ set = {last}; names = attrNames {last}; values = attrValues {last}; has = {last} ? {asked}; or = {last}.{asked} or null; same = {last} == {}; }}",
            written(&set)
        );
        let expected = serde_json::json!({
            "has": set.contains_key(&asked),
            "names": set.keys().collect::<Vec<_>>(),
            "or": set.get(&asked),
            "same": true,
            "set": set,
            "values": set.values().collect::<Vec<_>>(),
        });
        for collect_always in [false, true] {
            let found: serde_json::Value = serde_json::from_str(&evaluate(&expression, collect_always)).expect("it is JSON");
            prop_assert_eq!(&found, &expected, "{}", expression);
        }
    }
}
