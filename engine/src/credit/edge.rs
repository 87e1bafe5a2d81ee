//! The dataflow of a credit edge: a gate, an exchange, and the way back of the credits.

use std::collections::VecDeque;
use std::rc::Rc;

use timely::ExchangeData;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::core::feedback::Handle;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{ConnectLoop, Feedback};
use timely::dataflow::{Scope, Stream};
use timely::progress::Timestamp;

use super::lent::{Cargo, Credit, Lent, Owed};

/// A record on its way: its producer, its bytes, itself.
pub(crate) type Wire<D> = (u32, u64, D);
/// Bytes that go back to a producer.
pub(crate) type Returned = (u32, u64);

/// Sends the records of `stream` to the workers that `route` says (modulo their number), as long
/// as the credit of this worker suffices; the others wait here, in their order.
///
/// What waits here is memory of the producer: where the producer reads from outside, use
/// [`source`](crate::source::source), which reads no more than it may send.
pub fn credit<'s, T, D, R>(
    stream: Stream<'s, T, Vec<D>>,
    route: R,
    credit: &Credit,
) -> Stream<'s, T, Vec<Lent<D>>>
where
    T: Timestamp,
    D: Cargo + ExchangeData,
    R: Fn(&D) -> u64 + 'static,
{
    let scope = stream.scope();
    let me = scope.worker().index() as u32;
    let credit = credit.clone();
    let (handle, returned) = loop_back(scope);
    let mut gate = OperatorBuilder::new("Credit".to_owned(), scope);
    let mut input = gate.new_input(stream, Pipeline);
    let home = Exchange::new(|r: &Returned| u64::from(r.0));
    // credits are connected to no output: they hold back no frontier
    let mut back = gate.new_input_connection(returned, home, []);
    let now = std::iter::once((
        0,
        timely::progress::Antichain::from_elem(T::Summary::default()),
    ));
    let now: Vec<_> = now.collect();
    let (output, wire) = gate.new_output_connection::<Vec<Wire<D>>, _>(now);
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<_>>::from(output);
    gate.build(move |capabilities| {
        drop(capabilities);
        let mut waiting: VecDeque<(Rc<_>, D)> = VecDeque::new();
        move |_| {
            input.for_each(|cap, records| {
                let cap = Rc::new(cap.retain_stamp(0));
                waiting.extend(records.drain(..).map(|r| (Rc::clone(&cap), r)));
            });
            back.for_each(|_, returns| {
                returns
                    .drain(..)
                    .for_each(|(_, bytes)| credit.give_back(bytes));
            });
            let mut output = output.activate();
            while let Some((cap, record)) = waiting.pop_front() {
                let bytes = record.bytes() as u64;
                if !credit.spend(bytes) {
                    waiting.push_front((cap, record));
                    break;
                }
                output.session(&*cap).give((me, bytes, record));
            }
            credit.report();
        }
    });
    lend(wire, route, handle)
}

/// The way back of credits, still open at its start.
pub(crate) fn loop_back<'s, T: Timestamp>(
    scope: Scope<'s, T>,
) -> (Handle<'s, T, Vec<Returned>>, Stream<'s, T, Vec<Returned>>) {
    scope.feedback(T::Summary::default())
}

/// Delivers what is on the wire, and sends home the credit of what the consumer is done with.
pub(crate) fn lend<'s, T, D, R>(
    wire: Stream<'s, T, Vec<Wire<D>>>,
    route: R,
    handle: Handle<'s, T, Vec<Returned>>,
) -> Stream<'s, T, Vec<Lent<D>>>
where
    T: Timestamp,
    D: ExchangeData,
    R: Fn(&D) -> u64 + 'static,
{
    let scope = wire.scope();
    let mut lend = OperatorBuilder::new("Lend".to_owned(), scope);
    let mut input = lend.new_input(wire, Exchange::new(move |w: &Wire<D>| route(&w.2)));
    let (output, lent) = lend.new_output::<Vec<Lent<D>>>();
    let (home, returned) = lend.new_output_connection::<Vec<Returned>, _>([]);
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<_>>::from(output);
    let mut home = OutputBuilder::<_, CapacityContainerBuilder<_>>::from(home);
    let owed = Rc::new(Owed {
        bytes: Default::default(),
        wake: scope.activator_for(lend.operator_info().address),
    });
    lend.build(move |mut capabilities| {
        let mut back = capabilities.pop();
        drop(capabilities);
        move |frontiers| {
            let mut output = output.activate();
            input.for_each(|cap, records| {
                let records = records.drain(..);
                let records = records.map(|(from, bytes, d)| Lent::new(d, from, bytes, &owed));
                output.session(&cap).give_iterator(records);
            });
            if frontiers.iter().all(|f| f.is_empty()) {
                // nobody can send any more, so nobody waits for credit
                back = None;
            }
            let due = owed.bytes.take();
            if let Some(back) = &back {
                home.activate().session(back).give_iterator(due.into_iter());
            }
        }
    });
    returned.connect_loop(handle);
    lent
}
