//! A whole cluster in one process, from one seed: the production cores among simulated networks,
//! disks, processes and ZooKeeper.
