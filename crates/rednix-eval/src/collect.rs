//! Finding what is reachable. Runs between two instructions of the outermost run, where every pointer that will be
//! followed again lies in a field of the machine, in a frame, or in what [`Native::trace`](crate::vm::native::Native)
//! tells of.
//!
//! Moves nothing. On the way it puts computed values in place of the thunks they came from, wherever a slot or an
//! attribute holds one, so that those thunks can go.

use crate::bytecode::DefaultValue;
use crate::memory::{Gc, Heap, Map, slice};
use crate::value::{Attrs, Entry, Env, Layer, Thunk, Value};
use crate::vm::{Frame, Vm};
use std::cell::Cell;
use std::mem::{size_of, size_of_val};

/// Something marked whose contents are not.
enum Open {
    Env(Gc<Env>),
    Attrs(Gc<Attrs>),
    Cells(u32, Gc<Value>),
    Value(Value),
}

/// Follows pointers. What it is not told of is gone afterwards.
pub(crate) struct Tracer {
    map: Map,
    open: Vec<Open>,
}

impl Tracer {
    pub fn value(&mut self, value: Value) {
        match value {
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Builtin(_) => {}
            Value::Blackhole | Value::Failed(_) => {}
            Value::String(length, start) | Value::Path(length, start) => {
                self.map.keep(start.address(), length as usize);
            }
            Value::ContextString(string) => {
                if self.map.visit(string.address(), size_of_val(&*string)) {
                    self.map.keep(string.start.address(), string.length as usize);
                    self.map.keep(string.context.address(), size_of_val(string.context()));
                }
            }
            Value::List(length, start) | Value::Apply(length, start) => self.cells(length, start),
            Value::Attrs(set) => self.attrs(set),
            Value::Lambda(_, env) | Value::Suspended(_, env) => self.env(env),
            Value::Partial(partial) => {
                if self.map.visit(partial.address(), size_of_val(&*partial)) {
                    self.open.push(Open::Value(partial.function));
                    self.cells(partial.length, partial.arguments);
                }
            }
            Value::Thunk(thunk) => self.thunk(thunk),
        }
    }

    pub fn values(&mut self, values: &[Value]) {
        for &value in values {
            self.value(value);
        }
    }

    pub fn optional(&mut self, value: Option<Value>) {
        self.value(value.unwrap_or(Value::Null));
    }

    pub fn thunk(&mut self, thunk: Gc<Thunk>) {
        if !self.map.visit(thunk.address(), size_of::<Thunk>()) {
            return;
        }
        match thunk.get() {
            Value::Apply(length, start) => {
                // Nobody else has a call that waits, and most values in lists are one.
                if self.map.visit(start.address(), length as usize * size_of::<Value>()) {
                    slice(start, length).iter().for_each(|&value| self.inner(value));
                }
            }
            other => self.inner(other),
        }
    }

    /// A value found in a thunk. Thunks in thunks wait, for there may be a long row of them.
    fn inner(&mut self, value: Value) {
        match value {
            Value::Thunk(_) => self.open.push(Open::Value(value)),
            other => self.value(other),
        }
    }

    pub fn env(&mut self, env: Gc<Env>) {
        if self.map.visit(env.address(), size_of::<Env>() + size_of_val(env.slots())) {
            self.open.push(Open::Env(env));
        }
    }

    pub fn attrs(&mut self, set: Gc<Attrs>) {
        if self.map.visit(set.address(), size_of::<Attrs>()) {
            self.open.push(Open::Attrs(set));
        }
    }

    pub fn cells(&mut self, length: u32, start: Gc<Value>) {
        if length > 0 && !self.map.is_whole(start.address(), length as usize * size_of::<Value>()) {
            self.open.push(Open::Cells(length, start));
        }
    }

    /// A part of a list that somebody walks over.
    pub fn list(&mut self, items: &[Value]) {
        for item in items {
            if self.map.visit(std::ptr::from_ref(item) as usize, size_of::<Value>()) {
                self.value(*item);
            }
        }
    }

    /// Attributes somebody walks over.
    pub fn entries(&mut self, entries: &[Entry]) {
        for entry in entries {
            if self.map.visit(std::ptr::from_ref(entry) as usize, size_of::<Entry>()) {
                self.cell(&entry.value);
            }
        }
    }

    /// A part of a string that somebody reads.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.map.keep(bytes.as_ptr() as usize, bytes.len());
    }

    /// A value in a place of its own, which need not be a thunk any more once it was computed.
    fn cell(&mut self, cell: &Cell<Value>) {
        let value = cell.get();
        if let Value::Thunk(_) = value {
            let computed = value.peek();
            if computed.is_whnf() {
                cell.set(computed);
            }
            self.value(computed);
            return;
        }
        self.value(value);
    }

    fn layer(&mut self, layer: Gc<Layer>) {
        if !self.map.visit(layer.address(), size_of::<Layer>()) {
            return;
        }
        // Once flattened, nobody asks for what is below.
        self.attrs(layer.flat().unwrap_or_else(|| layer.base()));
        if let Some(flat) = layer.flat() {
            layer.drop_base(flat);
        }
    }

    fn run(&mut self) {
        while let Some(open) = self.open.pop() {
            match open {
                Open::Env(env) => {
                    if let Some(up) = env.up.get() {
                        self.env(up);
                    }
                    for slot in env.slots() {
                        self.cell(slot);
                    }
                }
                Open::Attrs(set) => {
                    if let Some(layer) = set.layer() {
                        self.layer(layer);
                    }
                    self.entries(set.own());
                }
                Open::Cells(length, start) => self.list(slice(start, length)),
                Open::Value(value) => self.value(value),
            }
        }
    }
}

impl Heap {
    #[inline(always)]
    pub fn wants_collection(&self) -> bool {
        self.allocated >= self.collect_at
    }
}

impl Vm {
    /// Gives back what nothing can reach any more. Only between two instructions.
    #[cold]
    #[inline(never)]
    pub(crate) fn collect(&mut self) {
        // Whoever started an inner run may hold values nobody else knows of.
        if self.runs > 1 {
            return;
        }
        if self.skipped_collections > 0 {
            self.skipped_collections -= 1;
            return;
        }
        self.free_envs.iter_mut().for_each(Vec::clear);
        let mut tracer = Tracer { map: self.heap.begin_collection(), open: Vec::new() };
        self.trace_roots(&mut tracer);
        tracer.run();
        for frame in &self.frames {
            trace_frame(frame, &mut tracer);
            tracer.run();
        }
        let live = self.heap.end_collection(tracer.map, self.settings.collect_always);
        if self.settings.collect_always {
            self.heap.collect_at = self.heap.allocated;
            // What is large would be walked over and over.
            self.skipped_collections = ((self.frames.len() + self.stack.len()) / 4 + live / 256) as u32;
        }
    }

    fn trace_roots(&self, tracer: &mut Tracer) {
        tracer.values(&self.stack);
        tracer.values(&self.handles);
        tracer.values(&self.program.constants);
        tracer.env(self.env);
        tracer.env(self.root);
        for &value in self.globals.values.values().chain(self.files.values()) {
            tracer.value(value);
        }
        let lambdas = self.program.lambdas.iter().filter_map(|lambda| lambda.formals.as_ref());
        for formal in lambdas.flat_map(|formals| &formals.formals) {
            if let Some(DefaultValue::Constant(value)) = formal.default {
                tracer.value(value);
            }
        }
    }
}

fn trace_frame(frame: &Frame, tracer: &mut Tracer) {
    match frame {
        Frame::Stop | Frame::Leave { .. } => {}
        Frame::Resume { env, .. } | Frame::Call { env, .. } => tracer.env(*env),
        Frame::Force { env, thunk, .. } | Frame::Retry { env, thunk, .. } => {
            tracer.env(*env);
            tracer.thunk(*thunk);
        }
        Frame::Update { thunk } => tracer.thunk(*thunk),
        Frame::Apply { arguments, count } => tracer.cells(*count, *arguments),
        Frame::Native { native, .. } => native.trace(tracer),
    }
}
