use std::collections::BTreeSet;

use super::super::entry::Section;
use super::*;
