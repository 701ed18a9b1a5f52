//! Medians, and what is dropped before they are taken.

/// The median; of an even number of samples the mean of the middle two. Zero samples make no sense and give NaN.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The median of what is left when the first fifth of the samples is dropped: the process was still warming up.
pub(crate) fn warm_median(samples: &[f64]) -> f64 {
    median(&samples[samples.len() / 5..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_and_the_first_fifth_does_not_count() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
        assert_eq!(warm_median(&[100.0, 1.0, 2.0, 3.0, 4.0]), 2.5);
    }
}
