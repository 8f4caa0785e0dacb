//! How tables by slot grow.

/// Makes room for `index` in a table that grows slot by slot: by an eighth at a time, where a `Vec` alone
/// would double. Most of the memory of many idle connections is such tables.
pub fn make_room_for<T>(table: &mut Vec<T>, index: usize) {
    const STEP_MIN: usize = 64;
    if index >= table.capacity() {
        let wanted = (index + 1).max(table.len() + (table.len() / 8).max(STEP_MIN));
        table.reserve_exact(wanted - table.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_little_more_room_than_it_needs() {
        let mut table = Vec::new();
        for index in 0..100_000_u32 {
            make_room_for(&mut table, index as usize);
            table.push(index);
        }
        assert!(table.capacity() <= table.len() + table.len() / 8 + 64);
    }
}
