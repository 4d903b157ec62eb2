//! An answer in JSON, written in pieces: that about a thousand Kustomizations is no single block of memory, and is gone
//! with the last piece that was sent.

use std::convert::Infallible;
use std::io;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;

/// What is answered.
pub(super) struct Answer<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        let mut pieces = Pieces::default();
        if let Err(error) = serde_json::to_writer(&mut pieces, &self.0) {
            return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
        }
        let pieces = pieces.0.into_iter().map(|piece| Ok::<_, Infallible>(Bytes::from(piece)));
        ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(stream::iter(pieces))).into_response()
    }
}

/// So large that allocators give each one back to the system by itself.
const PIECE: usize = 128 << 10;

#[derive(Default)]
struct Pieces(Vec<Vec<u8>>);

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.last_mut() {
            Some(last) if last.len() + bytes.len() <= PIECE => last.extend_from_slice(bytes),
            Some(_) => {
                let mut piece = Vec::with_capacity(PIECE.max(bytes.len()));
                piece.extend_from_slice(bytes);
                self.0.push(piece);
            }
            // Most answers are short.
            None => self.0.push(bytes.to_vec()),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn the_pieces_are_the_whole() {
        for length in [0, 10, PIECE, 5 * PIECE] {
            let whole: Vec<String> = (0..length / 10).map(|number| format!("{number:08}")).collect();
            let long = ["x".repeat(length)];
            for answer in [whole.as_slice(), long.as_slice()] {
                let response = Answer(answer).into_response();
                assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
                let body = response.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(body, serde_json::to_vec(answer).unwrap());
            }
        }
    }
}
