//! The server's side of gRPC: calls with one request, answered by one message or by a stream, over HTTP/2.
//!
//! ```text
//!   POST /spark.connect.SparkConnectService/NAME  framed message
//!   200 <─ framed message ...  <─ trailers: grpc-status, grpc-message, grpc-status-details-bin
//! ```
//!
//! How a message is framed stands in [`crate::spark_connect::framing`]. Compressed requests are refused, which clients of
//! Spark do not send unless they are told to.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use futures::stream::{self, StreamExt as _};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response};
use prost::Message;

use super::problem::{Problem, Result};
use crate::spark_connect::framing::{HEAD_BYTES, MAX_MESSAGE_BYTES, SERVICE, framed, take_message};

/// Codes of gRPC.
const INVALID_ARGUMENT: u32 = 3;
const RESOURCE_EXHAUSTED: u32 = 8;
const UNIMPLEMENTED: u32 = 12;

/// The answers of a call: messages, and in the end how it went.
pub(crate) type Answers = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// The body of an answer.
pub(crate) struct AnswerBody(Pin<Box<dyn Stream<Item = Frame<Bytes>> + Send>>);

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.as_mut().poll_next(context).map(|frame| frame.map(Ok))
    }
}

/// The name of the method a request calls, and its message.
pub(crate) async fn read(request: Request<Incoming>) -> Result<(String, BytesMut)> {
    let path = request.uri().path().to_owned();
    let Some(method) = path.strip_prefix(SERVICE) else {
        return Err(Problem::call(UNIMPLEMENTED, format!("there is no service at {path}, expected {SERVICE}...")));
    };
    let body = Limited::new(request.into_body(), MAX_MESSAGE_BYTES + HEAD_BYTES).collect().await.map_err(|error| {
        Problem::call(
            RESOURCE_EXHAUSTED,
            format!("a request is not read: {error}; at most {MAX_MESSAGE_BYTES} bytes are"),
        )
    })?;
    let mut buffer = BytesMut::from(body.to_bytes());
    let message = take_message(&mut buffer).map_err(|wrong| Problem::call(UNIMPLEMENTED, wrong))?;
    let message = message.ok_or_else(|| Problem::call(INVALID_ARGUMENT, "a request has no whole message"))?;
    Ok((method.to_owned(), message))
}

/// A message, read. One that is nested deeper than a stack is sure to take is refused, in words of DataFrames.
pub(crate) fn decoded<M: Message + Default>(message: BytesMut) -> Result<M> {
    M::decode(message).map_err(|error| {
        if error.to_string().contains("recursion limit") {
            return Problem::argument(
                "the plan has too many operations on top of each other\n\
                 give a part of it a name with createOrReplaceTempView, and go on from spark.table",
            );
        }
        Problem::call(INVALID_ARGUMENT, format!("a request cannot be read: {error}"))
    })
}

/// The answer of a method that is not served.
pub(crate) fn unknown_method(method: &str) -> Problem {
    Problem::call(UNIMPLEMENTED, format!("{method} is not served by Highwater"))
}

/// One answer.
pub(crate) fn one(answer: &impl Message) -> Answers {
    let frame = framed(answer);
    Box::pin(stream::once(async move { Ok(frame) }))
}

/// The answers as a response.
pub(crate) fn response(answers: Result<Answers>) -> Response<AnswerBody> {
    let frames = match answers {
        Ok(answers) => {
            // After the first problem nothing follows.
            let ended = answers.scan(false, |is_over, answer| {
                let next = if *is_over { None } else { Some(answer) };
                *is_over |= matches!(next, Some(Err(_)));
                futures::future::ready(next)
            });
            let frames = ended.map(|answer| match answer {
                Ok(bytes) => (Frame::data(bytes), false),
                Err(problem) => (trailers(Some(&problem)), true),
            });
            AnswerFrames { frames: Box::pin(frames), is_ended: false }.boxed()
        }
        Err(problem) => stream::once(futures::future::ready(trailers(Some(&problem)))).boxed(),
    };
    let mut response = Response::new(AnswerBody(frames));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Frames, with trailers of success behind them unless there are others.
struct AnswerFrames {
    frames: Pin<Box<dyn Stream<Item = (Frame<Bytes>, bool)> + Send>>,
    is_ended: bool,
}

impl Stream for AnswerFrames {
    type Item = Frame<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        self.frames.as_mut().poll_next(context).map(|next| match next {
            Some((frame, is_last)) => {
                self.is_ended = is_last;
                Some(frame)
            }
            None => {
                self.is_ended = true;
                Some(trailers(None))
            }
        })
    }
}

fn trailers(problem: Option<&Problem>) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    let code = problem.map_or(0, Problem::code);
    trailers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from(code));
    if let Some(problem) = problem {
        let texts =
            [("grpc-message", percent_encoded(&problem.message())), ("grpc-status-details-bin", problem.details())];
        for (name, text) in texts {
            if let Ok(value) = HeaderValue::from_str(&text) {
                trailers.insert(HeaderName::from_static(name), value);
            }
        }
    }
    Frame::trailers(trailers)
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spark_connect::messages::{
        ExecutePlanRequest, MAX_DEPTH, Over, Plan, PlanKind, Range, Relation, RelationKind,
    };

    fn request(depth: usize) -> BytesMut {
        let mut kind = RelationKind::Range(Range { start: None, end: 1, step: 1 });
        for _ in 0..depth {
            let input = Some(Box::new(Relation { common: None, kind: Some(kind) }));
            kind = RelationKind::Hint(Box::new(Over { input }));
        }
        let root = Box::new(Relation { common: None, kind: Some(kind) });
        let plan = Some(Plan { kind: Some(PlanKind::Root(root)) });
        BytesMut::from(ExecutePlanRequest { plan, ..ExecutePlanRequest::default() }.encode_to_vec().as_slice())
    }

    #[test]
    fn plans_that_are_too_deep_are_refused_with_the_way_out() {
        // With the stack that the server's threads have.
        let on_a_deep_stack = std::thread::Builder::new().stack_size(super::super::server::STACK_BYTES);
        on_a_deep_stack.spawn(check_depths).unwrap().join().unwrap();
    }

    fn check_depths() {
        assert!(decoded::<ExecutePlanRequest>(request(MAX_DEPTH - 1)).is_ok());
        let problem = decoded::<ExecutePlanRequest>(request(MAX_DEPTH + 100)).unwrap_err();
        assert!(problem.message().contains("createOrReplaceTempView"), "{}", problem.message());
        let problem = decoded::<ExecutePlanRequest>(BytesMut::from(&[0xff, 0xff][..])).unwrap_err();
        assert_eq!(problem.code(), INVALID_ARGUMENT);
    }
}
