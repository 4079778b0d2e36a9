//! Makes a store with many paths, for measurements: `many_paths FOLDER COUNT`. Half of the paths are derivations that
//! refer to others, half are small trees; nothing is rooted. Prints how long it took. Measures nothing else.

use std::collections::BTreeSet;
use std::time::Instant;

use rednix_store::derivation::{Derivation, Output};
use rednix_store::hash::Hash;
use rednix_store::nar::Tree;
use rednix_store::path::StorePath;
use rednix_store::store::{OpenOptions, PathInfo, Store};

const BATCH: usize = 1000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let (folder, count) = match &arguments[..] {
        [_, folder, count] => (folder, count.parse::<usize>().expect("COUNT is a number")),
        _ => panic!("usage: many_paths FOLDER COUNT"),
    };
    let store = Store::open(folder, OpenOptions::default()).expect("the store opens");
    let started = Instant::now();
    let derivations = write_derivations(&store, count / 2);
    let took = started.elapsed();
    println!("{} derivations written in {took:.2?}", derivations.len());
    let started = Instant::now();
    add_trees(&store, &derivations, count - derivations.len());
    println!("{} trees added in {:.2?}", count - derivations.len(), started.elapsed());
    store.flush().expect("the store can be flushed");
}

/// Each refers to up to eight earlier ones.
fn write_derivations(store: &Store, count: usize) -> Vec<StorePath> {
    let mut written: Vec<StorePath> = Vec::new();
    while written.len() < count {
        let derivations: Vec<Derivation> = (0..BATCH.min(count - written.len()))
            .map(|index| {
                let number = written.len() + index;
                let mut one = Derivation::new(&format!("package-{number}"), "x86_64-linux", "/bin/sh");
                one.outputs.insert("out".into(), Output::Deferred);
                one.environment.insert(b"text".to_vec(), vec![b'x'; 1200]);
                let earlier =
                    |step: usize| written.get((number * 7919 + step * 104_729) % written.len().max(1));
                one.input_sources.extend((0..8).filter_map(earlier).cloned());
                one.fill_output_paths(&mut |_| unreachable!("it has no inputs")).expect("paths follow");
                one
            })
            .collect();
        written.extend(store.write_derivations(&derivations).expect("derivations can be written"));
    }
    written
}

/// Three files in two folders; one file in three is the same in many trees.
fn add_trees(store: &Store, derivations: &[StorePath], count: usize) {
    for number in 0..count {
        let mut tree = Tree::directory();
        let mut insert = |path: &str, text: String| {
            tree.insert(path, Tree::file(text)).expect("the names differ");
        };
        insert("bin/tool", format!("tool {number}\n").repeat(200));
        insert("share/about", format!("about {number}\n").repeat(40));
        insert("share/licence", format!("licence {}\n", number % 50).repeat(100));
        let nar = tree.to_nar().expect("the tree can be written");
        let seed = Hash::sha256(&number.to_le_bytes());
        let path = StorePath::from_parts(seed.digest()[..20].try_into().expect("a hash is longer"), "output");
        let path = path.expect("the name is good");
        let mut info = PathInfo::new(path, Hash::sha256(&nar), nar.len() as u64);
        info.deriver = derivations.get(number).cloned();
        info.references = BTreeSet::from_iter(derivations.get(number / 2).cloned());
        store.add_nar(&mut nar.as_slice(), &info).expect("the tree can be added");
    }
}
