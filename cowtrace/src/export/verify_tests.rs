//! What users see of a verification, held by snapshots.
