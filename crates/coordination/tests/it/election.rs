//! Safety and liveness of the election, stated apart, under arbitrary histories.

use crate::played::{TIMEOUT, World};
use proptest::prelude::*;
use std::time::Duration;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    Serve(usize),
    Deliver(usize),
    Tick(usize),
    Connect(usize),
    Cut(usize, usize),
    Crash(usize),
    Withdraw(usize),
    Contend(usize),
    Advance(u64),
    /// Everything that waits arrives.
    Settle,
    DeleteLowest,
    DeletePath,
}

fn event(meddling: bool) -> impl Strategy<Value = Event> {
    let client = 0..3usize;
    let meddle = move |event: Event| match meddling {
        true => event,
        false => Event::Settle,
    };
    prop_oneof![
        12 => client.clone().prop_map(Event::Serve),
        12 => client.clone().prop_map(Event::Deliver),
        6 => client.clone().prop_map(Event::Tick),
        6 => client.clone().prop_map(Event::Connect),
        4 => (client.clone(), 0..3usize).prop_map(|(c, reach)| Event::Cut(c, reach)),
        1 => client.clone().prop_map(Event::Crash),
        1 => client.clone().prop_map(Event::Withdraw),
        1 => client.prop_map(Event::Contend),
        8 => (1..TIMEOUT.as_millis() as u64).prop_map(Event::Advance),
        6 => (1..500u64).prop_map(Event::Advance),
        6 => Just(Event::Settle),
        1 => Just(meddle(Event::DeleteLowest)),
        1 => Just(meddle(Event::DeletePath)),
    ]
}

fn happen(world: &mut World, event: &Event, lives: &mut u32) {
    match event {
        Event::Serve(client) => drop(world.serve(*client)),
        Event::Deliver(client) => drop(world.deliver(*client)),
        Event::Tick(client) => world.tick(*client),
        Event::Connect(client) => world.connect(*client),
        Event::Cut(client, reach) => world.cut(*client, *reach),
        Event::Crash(client) => {
            *lives += 1;
            world.crash(*client, *lives);
        }
        Event::Withdraw(client) => world.withdraw(*client),
        Event::Contend(client) => world.contend(*client),
        Event::Advance(ms) => world.advance(Duration::from_millis(*ms)),
        Event::Settle => {
            for client in 0..world.size() {
                for _ in 0..100 {
                    if !(world.serve(client) | world.deliver(client)) {
                        break;
                    }
                }
            }
        }
        Event::DeleteLowest => world.delete_lowest(),
        Event::DeletePath => world.delete_path(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Safety: nobody acts whose znode is not there and the lowest, whatever the connections do, as
    /// long as nobody meddles with znodes that are not theirs.
    #[test]
    fn nobody_acts_who_does_not_lead(events in prop::collection::vec(event(false), 0..400)) {
        let mut world = World::new(3);
        let mut lives = 0;
        for event in &events {
            happen(&mut world, event, &mut lives);
            world.assert_safe();
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Liveness: once nothing breaks any more one leads, the others know it, and no znode is left of
    /// attempts before, even if somebody meddled.
    #[test]
    fn somebody_leads_once_faults_stop(events in prop::collection::vec(event(true), 0..200)) {
        let mut world = World::new(3);
        let mut lives = 0;
        for event in &events {
            happen(&mut world, event, &mut lives);
        }
        world.calm();
        world.assert_settled();
        world.assert_safe();
    }
}
