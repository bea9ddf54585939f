//! Versions of Linux, for what no file of the running kernel tells.

/// Major and minor number of a release such as `5.10.0-32-cloud-amd64`.
pub fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions() {
        let releases = ["5.10.0-32-cloud-amd64", "6.18.44-fc-v657", "7.2+deb14", "6", "unknown", ""];
        let versions = [Some((5, 10)), Some((6, 18)), Some((7, 2)), None, None, None];
        assert_eq!(releases.map(version_of), versions);
    }
}
